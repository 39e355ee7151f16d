"""A job as an answer, and the wait for its end."""

from __future__ import annotations

import time
from typing import Any

from flask import Response, jsonify

from api.parts import Parts
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
    answer = jsonify(described(parts, look))
    if not look.job.state.terminal:
        answer.headers["openai-poll-after-ms"] = str(poll_after_ms(_eta_s(parts, look)))
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


def _eta_s(parts: Parts, look: Look) -> float | None:
    if look.job.state.terminal:
        return None
    return eta_s(look, gangs=parts.catalog.gangs(look.job.model), now=time.time())
