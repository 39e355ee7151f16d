"""The fair order: priority first, then owners by device-seconds, then first come."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from jobs.cost import work_units
from jobs.record import Job
from jobs.relay.board import Board
from jobs.store import JobStore
from tests.jobs import making

UNITS = work_units(making.request())


def submit(store: JobStore, owner: str, count: int = 1, **changes: object) -> list[Job]:
    return [store.submit(making.job(owner=owner, **changes)) for _ in range(count)]  # type: ignore[arg-type]


def serve(store: JobStore, board: Board, device_s: float | None = None) -> Job | None:
    """Release, claim and complete the next job; it takes what was estimated unless told."""
    for release in board.release("tiny", 1):
        job = making.claim(store, release.job_id, release.number)
        assert job is not None
        assert store.complete(
            job.id, job.fence, [], making.usage(device_s or work_units(job.request))
        )
        return job
    return None


def served(store: JobStore, board: Board, count: int) -> list[str]:
    jobs = [serve(store, board) for _ in range(count)]
    return [job.owner for job in jobs if job is not None]


def test_within_an_owner_first_come_first_served(store: JobStore, board: Board) -> None:
    jobs = submit(store, "ada", 3)
    assert [serve(store, board) for _ in range(4)][3] is None
    times = [store.get(job.id).started_at for job in jobs]
    assert times == sorted(times, key=lambda time: time or math.inf)


def test_a_heavy_owner_does_not_starve_a_light_one(store: JobStore, board: Board) -> None:
    submit(store, "heavy", 10)
    assert served(store, board, 3) == ["heavy"] * 3
    submit(store, "light", 3)
    assert Counter(served(store, board, 6)) == {"heavy": 3, "light": 3}


def test_owners_share_device_seconds_and_not_jobs(store: JobStore, board: Board) -> None:
    submit(store, "long", 4, request=making.request(num_inference_steps=60))
    submit(store, "short", 12, request=making.request(num_inference_steps=20))
    assert Counter(served(store, board, 8)) == {"long": 2, "short": 6}


def test_an_estimate_is_corrected_by_what_it_took(store: JobStore, board: Board) -> None:
    submit(store, "ada", 9)
    submit(store, "bob", 9)
    seconds: Counter[str] = Counter()
    for _ in range(12):
        owner = next(store.get(release.job_id).owner for release in board.release("tiny", 1))
        took = 3 * UNITS if owner == "ada" else UNITS
        assert serve(store, board, took) is not None
        seconds[owner] += round(took)
    assert abs(seconds["ada"] - seconds["bob"]) <= 4 * UNITS


def test_an_owner_back_after_hours_gets_no_backlog(store: JobStore, board: Board) -> None:
    submit(store, "back")
    assert served(store, board, 1) == ["back"]
    submit(store, "busy", 40)
    assert served(store, board, 20) == ["busy"] * 20
    submit(store, "back", 10)
    assert Counter(served(store, board, 10)) == {"back": 5, "busy": 5}


def test_priority_is_strict(store: JobStore, board: Board) -> None:
    submit(store, "ada", 2)
    submit(store, "bob", 2, priority=5)
    assert served(store, board, 4) == ["bob", "bob", "ada", "ada"]


def test_models_do_not_wait_for_each_other(store: JobStore, board: Board) -> None:
    submit(store, "ada", 2, model="other")
    (job,) = submit(store, "bob")
    assert {release.job_id for release in board.release("tiny", 5)} == {job.id}


def test_releases_under_way_count_as_served(store: JobStore, board: Board) -> None:
    submit(store, "ada", 4)
    submit(store, "bob", 4)
    released = board.release("tiny", 4)
    assert Counter(store.get(release.job_id).owner for release in released) == {"ada": 2, "bob": 2}


def test_an_unclaimed_release_costs_nothing_and_keeps_its_place(
    store: JobStore, board: Board
) -> None:
    first, _ = submit(store, "ada", 2)
    submit(store, "bob", 2)
    (release,) = board.release("tiny", 1)
    assert release.job_id == first.id
    board.unrelease(release)
    (again,) = board.release("tiny", 1)
    assert (again.job_id, again.number) == (first.id, release.number + 1)


def test_a_lost_attempt_is_not_charged_and_a_handed_back_job_goes_first(
    store: JobStore, board: Board
) -> None:
    first, _ = submit(store, "ada", 2)
    for end in ("lose", "hand_back"):
        (release,) = board.release("tiny", 1)
        assert release.job_id == first.id
        job = making.claim(store, release.job_id, release.number, f"worker that will {end}")
        assert job is not None
        if end == "lose":
            (silent,) = board.running()
            board.lose(silent)
            assert store.redis.zscore("t:order:0:tiny", "ada") == pytest.approx(0, abs=1e-6)
        else:
            store.hand_back(job.id, job.fence)
    (release,) = board.release("tiny", 1)
    assert release.job_id == first.id


def test_the_charge_is_what_finished_jobs_took(store: JobStore, board: Board) -> None:
    submit(store, "ada", 2)
    serve(store, board, 10 * UNITS)
    board.release("tiny", 1)
    charge = store.redis.zscore("t:times:0:tiny", "ada")
    assert charge == pytest.approx(20 * UNITS)


def test_nothing_is_left_of_owners_that_are_served(store: JobStore, board: Board) -> None:
    submit(store, "ada", 2)
    submit(store, "bob", 1, priority=3)
    served(store, board, 3)
    patterns = ("t:queue:*", "t:order:*", "t:levels:*", "t:released", "t:running", "t:gangs")
    assert [key for pattern in patterns for key in store.redis.scan_iter(pattern)] == []
