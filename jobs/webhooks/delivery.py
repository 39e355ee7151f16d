"""One attempt at one event, and what follows from its outcome."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

import httpcore

from jobs.relay.board import Hook
from jobs.settings import Settings
from jobs.webhooks.message import body, headers
from jobs.webhooks.secrets import secrets_of
from jobs.webhooks.target import GuardedBackend, TargetRefused

DELAYS_S = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""Before the second attempt, the third, ...: the schedule that Standard Webhooks advises."""
MAX_RETRY_AFTER_S = 86_400
THROTTLE_S = 30.0
"""How long a receiver that says it is overloaded gets nothing at all, unless it says itself."""


@dataclass(frozen=True)
class Outcome:
    """How an attempt ended: an HTTP status, or the reason why there was none."""

    status: int | None
    reason: str = ""
    retry_after_s: float = 0.0

    @property
    def delivered(self) -> bool:
        """2xx, and nothing else; a redirect is a failure and is not followed."""
        return self.status is not None and 200 <= self.status < 300

    @property
    def throttle_s(self) -> float:
        """How long the receiver wants to be left alone, other events included."""
        if self.status not in (429, 502, 504):
            return 0.0
        return self.retry_after_s or THROTTLE_S


def delay_s(outcome: Outcome, attempts: int, jitter: Callable[[], float]) -> float | None:
    """Seconds until the next attempt after `attempts` made; None: give up.

    `jitter` gives a number from 0 to 1, which spreads the load over a tenth of the delay.
    """
    if outcome.status == 410 or attempts > len(DELAYS_S):
        return None
    delay = max(DELAYS_S[attempts - 1], outcome.retry_after_s, outcome.throttle_s)
    return delay * (1 + jitter() / 10)


class Sender:
    """Posts events, each over a connection of its own, so that every attempt checks its target."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._tls = httpcore.default_ssl_context()

    def post(self, hook: Hook) -> Outcome:
        """Try once; takes `webhook_timeout_s` at the most, resolving the name aside."""
        secrets = secrets_of(hook.job.owner, self._settings)
        if not secrets:
            return Outcome(None, "no RUSHES_WEBHOOK_SECRET to sign with")
        text = body(hook)
        signed = headers(hook, text, secrets, datetime.now(UTC))
        backend = GuardedBackend(
            private=self._settings.webhook_private,
            setting="RUSHES_WEBHOOK_PRIVATE=1",
            timeout_s=self._settings.webhook_timeout_s,
        )
        try:
            with (
                httpcore.ConnectionPool(self._tls, network_backend=backend) as connections,
                connections.stream(
                    "POST", hook.url, headers=list(signed.items()), content=text.encode()
                ) as response,
            ):
                return Outcome(response.status, retry_after_s=_retry_after_s(response))
        except TargetRefused as refused:
            return Outcome(None, str(refused))
        except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
            return Outcome(None, f"{type(error).__name__}: {error}"[:200])


def jitter() -> float:
    """The jitter for `delay_s`."""
    return random.random()  # noqa: S311 - spreads load, guards nothing


def _retry_after_s(response: httpcore.Response) -> float:
    for name, value in response.headers:
        if name.lower() == b"retry-after" and value.isdigit():
            return min(float(value), MAX_RETRY_AFTER_S)
    return 0.0
