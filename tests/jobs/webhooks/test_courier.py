"""From the outbox to the receiver, and the log of it."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from standardwebhooks import Webhook

from jobs.errors import NotFound
from jobs.record import JobError
from jobs.relay.board import Board
from jobs.states import State
from jobs.store import JobStore
from jobs.webhooks import shares
from jobs.webhooks.courier import Courier
from jobs.webhooks.delivery import Sender
from jobs.webhooks.log import DeliveryLog
from jobs.workers import Workers
from tests.fixtures.waiting import wait_for
from tests.fixtures.webhooks import Receiver
from tests.jobs import making
from tests.jobs.webhooks.making import SECRET, settings


@pytest.fixture(autouse=True)
def short_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """An event whose receiver is busy comes again soon."""
    monkeypatch.setattr(shares, "CROWDED_S", 0.1)


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
        job = making.claim(store, release.job_id, release.number, f"w-{release.job_id}")
        assert job is not None
        assert store.hand_back(job.id, job.fence)
    for release in board.release("tiny", 3):
        job = making.claim(store, release.job_id, release.number, f"v-{release.job_id}")
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
            assert len(slow.received) == 1
            slow.hold.set()
    finally:
        slow.close()


def test_many_receivers_that_hang_hold_up_no_other_of_their_owner(
    store: JobStore, board: Board, receiver: Receiver
) -> None:
    hanging = [Receiver() for _ in range(6)]
    for each in hanging:
        each.hold.clear()
    try:
        for each in hanging:
            ended(store, each.url(), 3)
        patient = Sender(settings(webhook_timeout_s=60))
        with running(board, Courier(board, patient, lambda: True, hold_s=120)):
            wait_for(lambda: all(each.received for each in hanging), "all hang", timeout_s=50)
            ended(store, receiver.url(), 5)
            wait_for(lambda: len(receiver.received) == 5, "the others are served", timeout_s=50)
            assert [len(each.received) for each in hanging] == [1] * 6, "they hang still"
            for each in hanging:
                each.hold.set()
    finally:
        for each in hanging:
            each.close()


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
