"""Webhooks over real HTTP, from the outbox to the receiver."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from jobs.errors import NotFound
from jobs.public import public
from jobs.record import JobError
from jobs.relay.board import Board, Hook
from jobs.settings import Settings
from jobs.states import State
from jobs.store import JobStore
from jobs.webhooks import check_webhook_url
from jobs.webhooks.courier import Courier
from jobs.webhooks.delivery import DELAYS_S, THROTTLE_S, Outcome, Sender, delay_s
from jobs.webhooks.log import DeliveryLog
from jobs.webhooks.message import body, headers
from jobs.webhooks.shares import CROWDED_S, Shares
from jobs.webhooks.target import is_public
from jobs.workers import Workers
from pipeline.limits import RequestError
from tests.fixtures.waiting import wait_for
from tests.fixtures.webhooks import Receiver
from tests.jobs import making

SECRET = "whsec_" + "c2VjcmV0" * 5


def settings(**changes: object) -> Settings:
    fields = {"webhook_secret": SECRET, "webhook_private": True, "webhook_timeout_s": 5, **changes}
    return making.settings("redis://unused", **fields)


def hook(url: str) -> Hook:
    job = making.job(state=State.COMPLETED, completed_at=1700000002.5, webhook_url=url)
    return Hook(f"evt_{job.id}_completed", url, 1700000002.5, 0, job)


# What is said -----------------------------------------------------------------------------------


def test_a_delivery_is_what_standard_webhooks_verify(receiver: Receiver) -> None:
    sent = hook(receiver.url("/hook?token=a%20b"))
    assert Sender(settings()).post(sent).delivered
    (got,) = receiver.received
    assert got.path == "/hook?token=a%20b"
    assert got.headers["content-type"] == "application/json"
    assert got.headers["host"] == f"127.0.0.1:{receiver.port}"
    event = Webhook(SECRET).verify(got.body, got.headers)
    assert event == {
        "id": sent.event,
        "object": "event",
        "type": "video.completed",
        "created_at": 1700000002,
        "data": json.loads(json.dumps(public(sent.job))),
    }
    assert got.headers["webhook-id"] == sent.event


def test_a_retry_has_the_same_id_and_body_and_a_new_timestamp() -> None:
    sent = hook("https://example.com")
    text = body(sent)
    assert text == body(sent)
    first_at = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
    first = headers(sent, text, [SECRET], first_at)
    second = headers(sent, text, [SECRET], first_at + timedelta(seconds=5))
    assert first["webhook-id"] == second["webhook-id"]
    assert int(second["webhook-timestamp"]) - int(first["webhook-timestamp"]) == 5
    assert first["webhook-signature"] != second["webhook-signature"]
    elsewhere = first_at.astimezone(timezone(timedelta(hours=5)))
    assert headers(sent, text, [SECRET], elsewhere) == first


def test_a_body_stays_small_with_the_longest_prompt() -> None:
    prompts = {"prompt": "🎬" * 4000, "negative_prompt": "ü" * 4000}
    job = making.job(request=making.request(**prompts), state=State.FAILED)
    text = body(Hook("evt", "https://example.com", 1.0, 0, job))
    assert len(text.encode()) < 20_000
    assert json.loads(text)["data"]["prompt"] == "🎬" * 499 + "…"
    short = making.job(request=making.request(prompt="ü" * 1000), state=State.FAILED)
    text = body(Hook("evt", "https://example.com", 1.0, 0, short))
    assert json.loads(text)["data"] == json.loads(json.dumps(public(short)))


OLD_SECRET = "whsec_" + "b2xkb2xk" * 5


def test_while_secrets_change_receivers_accept_with_either(receiver: Receiver) -> None:
    both = settings(webhook_secret=f"{SECRET}, {OLD_SECRET}")
    assert Sender(both).post(hook(receiver.url())).delivered
    (got,) = receiver.received
    for secret in (SECRET, OLD_SECRET):
        Webhook(secret).verify(got.body, got.headers)
    assert len(got.headers["webhook-signature"].split(" ")) == 2
    with pytest.raises(WebhookVerificationError):
        Webhook("whsec_" + "b3RoZXJz" * 5).verify(got.body, got.headers)


def test_the_openai_sdk_unwraps_a_delivery(receiver: Receiver) -> None:
    openai = pytest.importorskip("openai")
    sent = hook(receiver.url())
    assert Sender(settings()).post(sent).delivered
    (got,) = receiver.received
    client = openai.OpenAI(api_key="EMPTY", webhook_secret=SECRET)
    event = client.webhooks.unwrap(got.body, got.headers)
    assert (event.type, event.id) == ("video.completed", sent.event)
    with pytest.raises(openai.InvalidWebhookSignatureError):
        client.webhooks.unwrap(got.body + " ", got.headers)


# What follows from an answer ---------------------------------------------------------------------


def test_the_schedule() -> None:
    failed = Outcome(500)
    delays = [delay_s(failed, attempts, lambda: 0.0) for attempts in range(1, 11)]
    assert delays == [*DELAYS_S, None]
    assert delay_s(failed, 1, lambda: 1.0) == pytest.approx(5.5)
    assert delay_s(Outcome(410), 1, lambda: 0.0) is None, "the receiver wants no more"
    assert delay_s(Outcome(429, retry_after_s=60), 1, lambda: 0.0) == 60
    assert delay_s(Outcome(503, retry_after_s=1), 1, lambda: 0.0) == 5
    for status in (429, 502, 504):
        assert delay_s(Outcome(status), 1, lambda: 0.0) == THROTTLE_S
    assert Outcome(500).throttle_s == 0


@pytest.mark.parametrize("status", [199, 301, 302, 307, 308, 400, 404, 500])
def test_only_2xx_is_success(status: int) -> None:
    assert not Outcome(status).delivered


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answers = [307]
    receiver.headers = {"location": receiver.url("/elsewhere"), "retry-after": "7"}
    outcome = Sender(settings()).post(hook(receiver.url()))
    assert outcome == Outcome(307, retry_after_s=7)
    assert [got.path for got in receiver.received] == ["/hook"]


def test_a_receiver_that_drips_is_left_after_the_timeout() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                while not stop.wait(0.05):
                    try:
                        connection.send(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        start = time.monotonic()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        outcome = Sender(settings(webhook_timeout_s=0.5)).post(hook(url))
        stop.set()
        thread.join()
    assert outcome.status is None
    assert time.monotonic() - start < 10


def test_nobody_listening_and_no_such_name_are_failures() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/", "http://no-such-name.invalid/", f"http://{'a' * 70}/"):
        outcome = Sender(settings()).post(hook(url))
        assert outcome.status is None
        assert outcome.reason


# Whom it may reach -------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "0"])
def test_a_private_target_is_refused_at_the_connection(receiver: Receiver, host: str) -> None:
    outcome = Sender(settings(webhook_private=False)).post(hook(receiver.url(host=host)))
    assert outcome.status is None
    assert "no public address" in outcome.reason
    assert receiver.received == []


def test_a_name_that_turns_private_is_refused_and_resolved_once(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["127.0.0.1", "93.184.216.34"])
    asked = []

    def resolve(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = receiver.url(host="rebinding.example.com")
    assert "no public address" in Sender(settings(webhook_private=False)).post(hook(url)).reason
    assert asked == ["rebinding.example.com"]
    assert receiver.received == []


@pytest.mark.parametrize(
    ("address", "public_"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1%lo", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
    ],
)
def test_public_addresses(address: str, public_: bool) -> None:
    assert is_public(address) is public_


def test_a_good_url_is_taken_as_it_is() -> None:
    for url in (
        "https://example.com/hook?a=b",
        "http://93.184.216.34:8080/",
        "https://[2606:2800::1]/",
    ):
        assert check_webhook_url(url, settings(webhook_private=False)) == url
    assert check_webhook_url("http://127.0.0.1:9/", settings())


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("ftp://example.com/", "must be an http or https URL"),
        ("example.com/hook", "must be an http or https URL"),
        ("https:///hook", "must be an http or https URL"),
        ("https://example.com:99999/", "must be a URL"),
        ("https://[::1/", "must be a URL"),
        ("https://user:hunter2@example.com/", "must not hold credentials"),
        ("https://exa mple.com/", "must be plain ASCII"),
        ("https://example.com/\r\nx: y", "must be plain ASCII"),
        ("https://exämple.com/", "must be plain ASCII"),
        ("https://example.com/" + "a" * 2048, "must have at most 2048 characters"),
        ("http://localhost/", "must not name a private"),
        ("http://169.254.169.254/latest", "must not name a private"),
        ("http://[::1]/", "must not name a private"),
    ],
)
def test_a_bad_url_is_refused_at_submit_and_not_echoed(url: str, allowed: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_webhook_url(url, settings(webhook_private=False))
    assert caught.value.field == "webhook_url"
    assert caught.value.allowed.startswith(allowed)
    assert caught.value.value is None


def test_without_a_secret_no_webhook_is_offered() -> None:
    with pytest.raises(RequestError, match="RUSHES_WEBHOOK_SECRET"):
        check_webhook_url("https://example.com/", settings(webhook_secret=None))


# From the outbox ---------------------------------------------------------------------------------


@contextmanager
def running(board: Board, courier: Courier) -> Iterator[None]:
    stop = threading.Event()
    thread = threading.Thread(target=courier.run, args=(stop,))
    thread.start()
    try:
        yield
    finally:
        stop.set()
        courier.kick()
        thread.join()


def courier_of(board: Board) -> Courier:
    return Courier(board, Sender(settings()), lambda: True, hold_s=60)


def ended(store: JobStore, url: str, count: int = 1) -> list[str]:
    jobs = [store.submit(making.job(webhook_url=url)) for _ in range(count)]
    return [store.cancel(job.id).id for job in jobs]


def test_an_event_is_delivered_once_and_leaves_the_outbox(
    store: JobStore, board: Board, receiver: Receiver
) -> None:
    (job_id,) = ended(store, receiver.url())
    with running(board, courier_of(board)):
        wait_for(lambda: not store.redis.exists("t:outbox"), "the outbox is empty")
    (got,) = receiver.received
    assert json.loads(got.body)["type"] == "video.cancelled"
    assert json.loads(got.body)["data"]["id"] == job_id


def test_a_failed_event_is_tried_again_by_the_schedule(
    store: JobStore, board: Board, receiver: Receiver
) -> None:
    receiver.answers = [500, 200]
    (job_id,) = ended(store, receiver.url())
    event = f"evt_{job_id}_cancelled"
    courier = courier_of(board)
    with running(board, courier):
        wait_for(lambda: store.redis.hget(f"t:hook:{event}", "attempt") == "1", "it failed once")
        due_in_s = float(store.redis.zscore("t:outbox", event) or 0) - time.time()
        assert 3 < due_in_s < 6
        store.redis.zadd("t:outbox", {event: 1.0})
        courier.kick()
        wait_for(lambda: not store.redis.exists("t:outbox"), "it is delivered")
    first, second = receiver.received
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"] == event
    Webhook(SECRET).verify(second.body, second.headers)


def test_only_the_chosen_states_are_told(
    store: JobStore, board: Board, receiver: Receiver, workers: Workers
) -> None:
    workers.announce(making.worker())
    chosen = (State.IN_PROGRESS, State.FAILED)
    ids = [
        store.submit(making.job(webhook_url=receiver.url(), webhook_events=events)).id
        for events in (chosen, (), (State.COMPLETED,))
    ]
    for release in board.release("tiny", 3):
        job = store.claim(release.job_id, release.number, f"w-{release.job_id}")
        assert job is not None
        assert store.hand_back(job.id, job.fence)
    for release in board.release("tiny", 3):
        job = store.claim(release.job_id, release.number, f"v-{release.job_id}")
        assert job is not None
        store.fail(job.id, job.fence, JobError(code="error", message="as told"))
    with running(board, courier_of(board)):
        wait_for(lambda: not store.redis.exists("t:outbox"), "the outbox is empty")
    told = {(event["data"]["id"], event["type"]): event for event in bodies(receiver)}
    assert set(told) == {
        (ids[0], "video.in_progress"),
        (ids[0], "video.failed"),
        (ids[1], "video.failed"),
    }
    assert len(receiver.received) == 3, "a job begins once, however often it is tried"
    assert told[ids[0], "video.in_progress"]["data"]["status"] == "in_progress"


def bodies(receiver: Receiver) -> list[dict[str, Any]]:
    return [json.loads(got.body) for got in receiver.received]


def test_the_log_tells_every_attempt_and_a_replay_sends_the_same_again(
    store: JobStore, board: Board, receiver: Receiver
) -> None:
    receiver.answers = [500, 204]
    (job_id,) = ended(store, receiver.url())
    log = DeliveryLog(store)
    (event,) = log.list(job_id, owner="ada")
    assert (event.status, event.attempts) == ("pending", ())
    courier = courier_of(board)
    with running(board, courier):
        wait_for(lambda: log.list(job_id)[0].attempts, "it was tried")
        (event,) = log.list(job_id)
        assert (event.status, event.attempts[0]["status"]) == ("pending", 500)
        assert (event.next_attempt_at or 0) > time.time()
        replayed = log.replay(job_id, event.event, owner="ada")
        assert (replayed.next_attempt_at or 0) <= time.time()
        courier.kick()
        wait_for(lambda: log.list(job_id)[0].status == "delivered", "it is delivered")
        log.replay(job_id, event.event)
        courier.kick()
        wait_for(lambda: len(log.list(job_id)[0].attempts) == 3, "it is sent once more")
    assert len({got.body for got in receiver.received}) == 1
    assert len({got.headers["webhook-id"] for got in receiver.received}) == 1
    for asked in (lambda: log.list(job_id, owner="bob"), lambda: log.replay(job_id, "evt_other")):
        with pytest.raises(NotFound):
            asked()


def test_the_log_is_bounded_and_goes_with_its_job(store: JobStore, board: Board) -> None:
    (job_id,) = ended(store, "https://example.com/hook")
    (due,) = board.due_hooks(10, 60)
    for number in range(30):
        board.hook_tried(due, {"at": number}, "pending", 60)
        board.hook_tried(due, {"at": number}, "pending", 60)  # its answer was lost
    attempts = DeliveryLog(store).list(job_id)[0].attempts
    assert [each["at"] for each in attempts] == list(range(10, 30))
    store.delete(job_id)
    assert store.redis.exists(f"t:hook:{due.event}"), "what is due is still sent"
    board.hook_tried(due, {"at": 30}, "delivered", None)
    left = [
        key for pattern in ("hook*", "tries*", "outbox") for key in store.redis.keys(f"t:{pattern}")
    ]
    assert left == []


def test_410_disables_the_receiver_for_its_owner_until_a_replay(
    store: JobStore, board: Board, receiver: Receiver
) -> None:
    receiver.answers = [410]
    first, second = ended(store, receiver.url(), 2)
    log = DeliveryLog(store)
    courier = Courier(board, Sender(settings()), lambda: True, hold_s=60, per_receiver=1)
    with running(board, courier):
        wait_for(
            lambda: {log.list(each)[0].status for each in (first, second)} == {"disabled"},
            "both are given up",
        )
        assert len(receiver.received) == 1
        receiver.answers = [204]
        bob = store.submit(making.job(owner="bob", webhook_url=receiver.url()))
        store.cancel(bob.id)
        courier.kick()
        wait_for(lambda: log.list(bob.id)[0].status == "delivered", "others are still told")
        log.replay(first, log.list(first)[0].event)
        courier.kick()
        wait_for(lambda: log.list(first)[0].status == "delivered", "its owner insisted")


def test_a_receiver_that_says_429_gets_nothing_for_a_while() -> None:
    now = [100.0]
    shares = Shares(per_receiver=2, per_owner=4, clock=lambda: now[0])
    busy, other = hook("https://busy.example/a"), hook("https://other.example/")
    assert shares.take(busy) == 0
    shares.give_back(busy, Outcome(429, retry_after_s=60).throttle_s)
    assert shares.take(hook("https://busy.example/b")) == 60
    assert shares.take(other) == 0
    now[0] += 60
    assert shares.take(busy) == 0


def test_one_owner_with_many_hosts_leaves_room_for_others() -> None:
    shares = Shares(per_receiver=2, per_owner=4)
    taken = [shares.take(hook(f"https://host-{n}.example/")) for n in range(10)]
    assert taken == [0.0] * 4 + [CROWDED_S] * 6
    bobs = dataclasses.replace(hook("https://bob.example/"), job=making.job(owner="bob"))
    assert shares.take(bobs) == 0
    assert shares.taken == 5


def test_a_receiver_that_sends_headers_without_end_is_left() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def flood() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not stop.is_set():
                    connection.sendall(b"x-more: " + b"y" * 1000 + b"\r\n")

        thread = threading.Thread(target=flood)
        thread.start()
        outcome = Sender(settings()).post(hook(f"http://127.0.0.1:{listener.getsockname()[1]}/"))
        stop.set()
        thread.join()
    assert (outcome.status, outcome.reason.partition(":")[0]) == (None, "RemoteProtocolError")


def test_a_slow_receiver_holds_up_no_other(
    store: JobStore, board: Board, receiver: Receiver
) -> None:
    slow = Receiver()
    slow.hold.clear()
    try:
        ended(store, slow.url(), 40)
        ended(store, receiver.url(), 5)
        patient = Sender(settings(webhook_timeout_s=60))
        courier = Courier(board, patient, lambda: True, hold_s=120)
        with running(board, courier):
            wait_for(lambda: len(receiver.received) == 5, "the others are served", timeout_s=50)
            assert len(slow.received) <= 2
            slow.hold.set()
    finally:
        slow.close()


def test_only_a_leader_sends(store: JobStore, board: Board, receiver: Receiver) -> None:
    ended(store, receiver.url())
    asked = threading.Event()

    def leads() -> bool:
        asked.set()
        return False

    courier = Courier(board, Sender(settings()), leads, hold_s=60)
    with running(board, courier):
        assert asked.wait(10)
    assert receiver.received == []
