"""Remote control: what Flower revokes is cancelled. (In a real worker: test_main.py.)"""

from __future__ import annotations

from jobs.states import State
from jobs.store import JobStore
from tests.jobs import making
from worker.control import cancel_all


def test_every_job_that_can_be_is_cancelled_and_the_others_are_named(redis_url: str) -> None:
    store = JobStore.connect(making.settings(redis_url))
    jobs = [store.submit(making.job(owner=owner)) for owner in ("ada", "bob")]

    answer = cancel_all(store, [jobs[0].id, "video_none", jobs[1].id])

    assert answer == {"error": "no job 'video_none'"}
    assert [store.get(job.id).state for job in jobs] == [State.CANCELLED] * 2
    assert cancel_all(store, [jobs[0].id]) == {"ok": "cancelled"}
