"""A job as an answer, and the wait for its end."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from flask import Response, request
from pydantic_core import to_json

from api.parts import Parts
from api.preferences import Preferences
from jobs.outlook import Look, eta_s
from jobs.public import public

POLL_LEAST_MS, POLL_MOST_MS, POLL_UNKNOWN_MS = 250, 10_000, 1000
_LOOK_AGAIN_S = 5.0
"""A lost hint delays a waiting answer by this at most."""


def described(parts: Parts, look: Look) -> dict[str, Any]:
    """The job object, with where the job stands."""
    return public(look.job, queue_position=look.standing.queue_position, eta_s=_eta_s(parts, look))


def answered(parts: Parts, look: Look) -> Response:
    """The job object, and when to ask again."""
    job_object = described(parts, look)
    # The answer that clients poll for: a third of the standard library's time.
    answer = Response(to_json(job_object), mimetype="application/json")
    if not look.job.state.terminal:
        answer.headers["openai-poll-after-ms"] = str(poll_after_ms(job_object["eta_s"]))
    return answer


def poll_after_ms(eta: float | None) -> int:
    """A tenth of what is left, so that a client knows soon and asks seldom."""
    if eta is None:
        return POLL_UNKNOWN_MS
    return int(min(POLL_MOST_MS, max(POLL_LEAST_MS, 100 * eta)))


def wait_for_end(parts: Parts, look: Look, owner: str, timeout_s: float) -> Look:
    """The job once it has ended, or as it stands after `timeout_s`.

    Raises:
        Busy: this process holds as many waits as it may.
        NotFound: the job was deleted meanwhile.
    """
    deadline = time.monotonic() + timeout_s
    watch = parts.events.watch(look.job.id)
    try:
        while True:
            look = parts.store.look(look.job.id, owner=owner)
            left_s = deadline - time.monotonic()
            if look.job.state.terminal or left_s <= 0:
                return look
            watch.wait(min(left_s, _LOOK_AGAIN_S))
    finally:
        watch.close()


def preferred(parts: Parts) -> Preferences:
    """What this request would like; it waits for RUSHES_MAX_WAIT_S at most."""
    found = Preferences.read(request.headers.get("prefer", ""))
    return replace(found, wait_s=min(found.wait_s or 0, parts.settings.max_wait_s) or None)


def applied(answer: Response, look: Look, prefer: Preferences) -> Response:
    """Say in `answer` which preferences were followed; 202 if the job goes on under `respond-async`."""
    followed = [] if prefer.wait_s is None else [f"wait={prefer.wait_s}"]
    if prefer.respond_async and not look.job.state.terminal:
        followed.insert(0, "respond-async")
        answer.status_code = 202
        answer.headers["location"] = f"/v1/{look.job.kind}s/{look.job.id}"
    if followed:
        answer.headers["preference-applied"] = ", ".join(followed)
    return answer


def _eta_s(parts: Parts, look: Look) -> float | None:
    if look.job.state.terminal:
        return None
    return eta_s(look, gangs=parts.catalog.gangs(look.job.model), now=time.time())
