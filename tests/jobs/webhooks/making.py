"""Settings and events for the tests of webhooks."""

from __future__ import annotations

from jobs.relay.board import Hook
from jobs.settings import Settings
from jobs.states import State
from tests.jobs import making

SECRET = "whsec_" + "c2VjcmV0" * 5
OLD_SECRET = "whsec_" + "b2xkb2xk" * 5


def settings(**changes: object) -> Settings:
    fields = {"webhook_secret": SECRET, "webhook_private": True, "webhook_timeout_s": 5, **changes}
    return making.settings("redis://unused", **fields)


def hook(url: str, owner: str = "anonymous") -> Hook:
    job = making.job(owner=owner, state=State.COMPLETED, completed_at=1700000002.5, webhook_url=url)
    return Hook(f"evt_{job.id}_completed", url, 1700000002.5, 0, job)
