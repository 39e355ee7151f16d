"""What a webhook says, and its signature."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

from jobs.public import public
from jobs.relay.board import Hook

MAX_BODY_BYTES = 20_000
"""What Standard Webhooks advises. Beyond it the prompts are cut, then `metadata` is left empty: the job
itself has them whole."""
CUT_CHARS = 500


def body(hook: Hook) -> str:
    """The event around the job object: the same bytes at every attempt."""
    kind = hook.job.id.partition("_")[0]
    data = public(hook.job)
    event = {
        "id": hook.event,
        "object": "event",
        "type": f"{kind}.{hook.job.state.value}",
        "created_at": int(hook.created_at),
        "data": data,
    }
    text = _json(event)
    prompts = {name: _cut(data[name]) for name in ("prompt", "negative_prompt")}
    shorter: tuple[dict[str, Any], ...] = (prompts, {"metadata": {}})
    for changes in shorter:
        if len(text.encode()) >= MAX_BODY_BYTES:
            data |= changes
            text = _json(event)
    return text


def headers(hook: Hook, text: str, secrets: Sequence[str], sent_at: datetime) -> dict[str, str]:
    """The headers for `text`, the body, with one signature a secret.

    The timestamp `sent_at` is this attempt's own.
    """
    sent_at = sent_at.astimezone(UTC)  # Webhook.sign takes any zone's clock for UTC's
    return {
        "content-type": "application/json",
        "user-agent": "rushes-webhooks/1",
        "webhook-id": hook.event,
        "webhook-timestamp": str(int(sent_at.timestamp())),
        "webhook-signature": " ".join(
            Webhook(secret).sign(hook.event, sent_at, text) for secret in secrets
        ),
    }


def _json(event: dict[str, Any]) -> str:
    return json.dumps(event, separators=(",", ":"), ensure_ascii=False)


def _cut(text: str) -> str:
    return text if len(text) <= CUT_CHARS else f"{text[: CUT_CHARS - 1]}…"
