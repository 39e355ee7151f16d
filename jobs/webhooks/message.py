"""What a webhook says, and its signature."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from standardwebhooks import Webhook

from jobs.public import public
from jobs.relay.board import Hook


def body(hook: Hook) -> str:
    """The event around the job object: the same bytes at every attempt."""
    kind = hook.job.id.partition("_")[0]
    event = {
        "id": hook.event,
        "object": "event",
        "type": f"{kind}.{hook.job.state.value}",
        "created_at": int(hook.created_at),
        "data": public(hook.job),
    }
    return json.dumps(event, separators=(",", ":"))


def headers(hook: Hook, text: str, secret: str, sent_at: datetime) -> dict[str, str]:
    """The signed headers for `text`, the body; the timestamp `sent_at` is this attempt's own."""
    sent_at = sent_at.astimezone(UTC)  # Webhook.sign takes any zone's clock for UTC's
    return {
        "content-type": "application/json",
        "user-agent": "rushes-webhooks/1",
        "webhook-id": hook.event,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": Webhook(secret).sign(hook.event, sent_at, text),
    }
