"""What a delivery says, and that receivers can verify it."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from jobs.public import public
from jobs.relay.board import Hook
from jobs.states import State
from jobs.webhooks.delivery import Sender
from jobs.webhooks.message import body, headers
from jobs.webhooks.secrets import secrets_of
from tests.fixtures.webhooks import Receiver
from tests.jobs import making
from tests.jobs.webhooks.making import OLD_SECRET, SECRET, hook, settings


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


def test_a_body_stays_small_with_the_longest_prompt_and_notes() -> None:
    prompts = {"prompt": "🎬" * 4000, "negative_prompt": "ü" * 4000}
    job = making.job(request=making.request(**prompts), state=State.FAILED)
    text = body(Hook("evt", "https://example.com", 1.0, 0, job))
    assert len(text.encode()) < 20_000
    assert json.loads(text)["data"]["prompt"] == "🎬" * 499 + "…"
    notes = {chr(0x4E00 + number) * 64: "\1" * 512 for number in range(16)}
    artifacts = tuple(making.artifact(job.id, "1-a") for _ in range(40))
    full = job.model_copy(
        update={"metadata": notes, "state": State.COMPLETED, "artifacts": artifacts}
    )
    text = body(Hook("evt", "https://example.com", 1.0, 0, full))
    assert len(text.encode()) < 20_000
    assert json.loads(text)["data"]["metadata"] == {}
    short = making.job(request=making.request(prompt="ü" * 1000), state=State.FAILED)
    text = body(Hook("evt", "https://example.com", 1.0, 0, short))
    assert json.loads(text)["data"] == json.loads(json.dumps(public(short)))


@pytest.mark.parametrize("owner", ["anonymous", "key_ann", "key_bob"])
def test_a_keys_webhooks_are_verified_with_its_own_secret_only(
    receiver: Receiver, owner: str
) -> None:
    """Who can verify can forge: no owner may know what another's events are signed with."""
    assert Sender(settings()).post(hook(receiver.url(), owner)).delivered
    (got,) = receiver.received
    for each in ("anonymous", "key_ann", "key_bob"):
        (secret,) = secrets_of(each, settings())
        if each == owner:
            Webhook(secret).verify(got.body, got.headers)
            continue
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(got.body, got.headers)


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
