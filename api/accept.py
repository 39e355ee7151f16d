"""From a valid request to a durable job: rights, rate, idempotency, submit."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Callable, Sequence

import structlog
from flask import g, request
from pydantic import BaseModel

from api.door import Caller, caller
from api.fields import JobOptions
from api.parts import Parts
from api.traces import span_of_request
from jobs.errors import RateLimited
from jobs.images import InputImage
from jobs.inputs import put_inputs
from jobs.outlook import Look
from jobs.record import Job, new_id
from jobs.states import State
from jobs.submission import Once
from jobs.webhooks import check_webhook_url
from pipeline.limits import RequestError
from pipeline.request import Request

KEY_HEADER = "idempotency-key"
_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_log = structlog.get_logger("api")


def accept(
    parts: Parts,
    wanted: Request,
    body: JobOptions,
    *,
    kind: str,
    images: Callable[[], Sequence[InputImage]] = tuple,
    remixed_from: str | None = None,
    retry_of: str | None = None,
) -> Look:
    """Make the job durable, its input images before it; only then is it answered.

    `body` is what the client sent, validated: its options are the job's, and an idempotency key stands
    for all of it. `images` gives those that `wanted` names; it is asked once the caller's rate allows
    a job. A request that repeats an idempotency key is given the first one's job, uncounted.

    Raises:
        RequestError: a priority beyond the caller's right, a webhook that may not be called, an image
            that cannot be taken.
        RateLimited, QueueFull, OverBudget: a limit is reached.
        KeyReused: the Idempotency-Key stands for something else.
    """
    who = caller()
    if body.priority > who.rights.max_priority:
        most = who.rights.max_priority
        raise RequestError("priority", body.priority, f"may be at most {most} with this key")
    url, events = _webhook(parts, who, body, kind)
    once = _once(body, kind, remixed_from or retry_of)
    if once is not None and (before := parts.store.accepted(who.owner, once)):
        return _noted(before, "job was there")
    _count(parts, who)
    job = Job(
        id=new_id(kind),
        owner=who.owner,
        request=wanted,
        priority=body.priority,
        created_at=time.time(),
        webhook_url=url,
        webhook_events=events,
        remixed_from=remixed_from,
        retry_of=retry_of,
        metadata=body.metadata or {},
        retention_s=body.expires_after,
        max_waiting_s=_least(body.max_waiting_s, parts.settings.max_waiting_s),
        max_running_s=_least(body.max_running_s, parts.settings.max_running_s),
        request_id=g.request_id,
        traceparent=span_of_request().traceparent,
    )
    if wanted.images:
        put_inputs(parts.store, parts.artifacts, job.id, images())
    look = parts.store.accept(job, once=once, quota=who.rights.quota)
    return _noted(look, "job accepted" if look.job.id == job.id else "job was there")


def _noted(look: Look, event: str) -> Look:
    g.accepted = True
    span_of_request().note({"job.id": look.job.id})
    _log.info(event, job=look.job.id, model=look.job.model)
    return look


def _least(*limits: int | None) -> int | None:
    """The strictest of the limits that there are."""
    return min((limit for limit in limits if limit is not None), default=None)


def _webhook(
    parts: Parts, who: Caller, body: JobOptions, kind: str
) -> tuple[str | None, tuple[State, ...]]:
    """Where the job's events go, and which: as the client says, else as its key does."""
    chosen = body.webhook_events
    if body.webhook_url is not None:
        check_webhook_url(body.webhook_url, parts.settings)
    url = body.webhook_url or who.rights.webhook_url
    if url is None and chosen:
        raise RequestError("webhook_events", None, "needs a webhook_url to be sent to")
    if chosen is None:
        return url, () if body.webhook_url else who.rights.webhook_events
    for event in chosen:
        if not event.startswith(f"{kind}."):
            raise RequestError("webhook_events", event, f"must name events of a {kind}")
    return (url if chosen else None), tuple(State(event.partition(".")[2]) for event in chosen)


def _once(body: BaseModel, kind: str, source: str | None) -> Once | None:
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise RequestError("Idempotency-Key", None, "must be 1 to 255 visible ASCII characters")
    asked = json.dumps([kind, source, body.model_dump(mode="json", exclude_none=True)])
    return Once(key=_digest(key), body=_digest(asked))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _count(parts: Parts, who: Caller) -> None:
    rate = who.rights.rate or parts.settings.rate
    if rate is None:
        return
    left = parts.rates.take(rate, who.counted_as)
    # https://datatracker.ietf.org/doc/draft-ietf-httpapi-ratelimit-headers/
    g.rate_headers = {
        "ratelimit-policy": f'"jobs";q={left.limit};w={left.window_s}',
        "ratelimit": f'"jobs";r={left.remaining};t={left.reset_s}',
    }
    if not left.granted:
        raise RateLimited(
            f"at most {rate}; try again in {left.reset_s} s", retry_after_s=left.reset_s
        )
