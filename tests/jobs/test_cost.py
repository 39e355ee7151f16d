"""What a job is expected to take, learned from those of its size."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest

from jobs.cost import work_units
from jobs.errors import OverBudget
from jobs.outlook import eta_s
from jobs.relay.board import Board
from jobs.store import JobStore
from jobs.submission import Quota
from tests.jobs import making

FIXED_S = 3.0
PER_UNIT_S = 0.9
TINY = {"num_frames": 1, "num_inference_steps": 1}
MEDIUM = {"num_inference_steps": 10}
LARGE: dict[str, Any] = {}  # the card's defaults
UNITS = work_units(making.request())


def true_s(**size: Any) -> float:
    """What a job takes here: what every job takes once, and its work."""
    return FIXED_S + PER_UNIT_S * work_units(making.request(**size))


def run(store: JobStore, board: Board, took_s: float | None = None, **size: Any) -> None:
    """A job that took so long on two devices, or as long as it truly takes."""
    took_s = true_s(**size) if took_s is None else took_s
    job = store.submit(making.job(request=making.request(**size)))
    (release,) = board.release("tiny", 1)
    claimed = making.claim(store, job.id, release.number)
    assert claimed is not None
    store.redis.hset(f"t:job:{job.id}", "started_at", str(time.time() - took_s))
    assert store.complete(job.id, claimed.fence, (), making.usage(2 * took_s))
    store.gang_free("w1", job.id, claimed.fence)


def expected_s(store: JobStore, **size: Any) -> float | None:
    """What the next job of that size is expected to take."""
    look = store.accept(making.job(request=making.request(**size)))
    store.delete(look.job.id)
    return look.standing.whole_s


def near(seconds: float, rel: float = 0.05) -> Any:
    return pytest.approx(seconds, rel=rel)


def test_a_job_takes_what_others_of_its_size_took(store: JobStore, board: Board) -> None:
    assert expected_s(store) is None
    run(store, board)
    assert expected_s(store) == near(true_s())


def test_between_tiny_and_large_the_fixed_part_is_told_from_the_work(
    store: JobStore, board: Board
) -> None:
    for size in (TINY, LARGE):
        run(store, board, **size)
    assert expected_s(store, **MEDIUM) == near(true_s(**MEDIUM))
    larger = {"num_inference_steps": 60}
    assert expected_s(store, **larger) == near(true_s(**larger))


def test_tiny_jobs_bend_nothing_of_large_ones(store: JobStore, board: Board) -> None:
    run(store, board)
    for _ in range(20):
        run(store, board, **TINY)
    assert expected_s(store) == near(true_s())
    assert expected_s(store, **TINY) == near(true_s(**TINY))


def test_from_tiny_jobs_nobody_can_tell_of_a_large_one(store: JobStore, board: Board) -> None:
    for _ in range(3):
        run(store, board, **TINY)
    assert expected_s(store) is None
    look = store.accept(making.job())
    assert eta_s(look, gangs=1, now=time.time()) is None
    twice = {"num_frames": 2, "num_inference_steps": 1}
    assert expected_s(store, **twice) == near(2 * true_s(**TINY)), "at most in proportion"


def test_a_first_run_that_is_slow_counts_no_more_after_the_next(
    store: JobStore, board: Board
) -> None:
    run(store, board, 60.0)
    run(store, board)
    assert expected_s(store) == near(true_s())
    run(store, board)
    run(store, board, 90.0)
    assert expected_s(store) == near(true_s())


def test_what_changed_for_good_is_learned_within_three_jobs(store: JobStore, board: Board) -> None:
    for took_s in (*[10.0] * 5, *[20.0] * 3):
        run(store, board, took_s)
    assert expected_s(store) == near(20)


def test_a_larger_job_is_never_expected_to_take_less(store: JobStore, board: Board) -> None:
    run(store, board, 30.0, **TINY)  # a cold start
    run(store, board, 10.0)
    assert expected_s(store, num_inference_steps=60) == near(10)


def test_sizes_that_nobody_asks_for_any_more_are_forgotten(store: JobStore, board: Board) -> None:
    run(store, board, **TINY)
    (size,) = store.redis.hkeys("t:runs:tiny")
    units = work_units(making.request(**TINY))
    week_ago = time.time() - 7 * 86400 - 1
    store.redis.hset("t:runs:tiny", size, f"[[{units}, 1, 1, {week_ago}]]")
    run(store, board)
    assert size not in store.redis.hkeys("t:runs:tiny")
    assert store.redis.hlen("t:runs:tiny") == 1


def test_a_mixed_service_is_known_throughout(store: JobStore, board: Board) -> None:
    drawn = random.Random(1)
    sizes = [
        {"num_frames": frames, "num_inference_steps": steps}
        for frames in (1, 5, 17, 33)
        for steps in (1, 4, 20, 50)
    ]
    for _ in range(60):
        size = drawn.choice(sizes)
        run(store, board, true_s(**size) * drawn.uniform(0.8, 1.25), **size)
    for size in sizes:
        assert expected_s(store, **size) == near(true_s(**size), rel=0.4), size


# The budget -----------------------------------------------------------------------------------------


def test_tiny_jobs_shut_no_budget_for_a_large_one(store: JobStore, board: Board) -> None:
    for _ in range(3):
        run(store, board, **TINY)
    quota = Quota(daily_device_s=100.0)
    job = store.accept(making.job(owner="ann"), quota=quota).job
    held = int(store.redis.hget("t:tally:ann", "estimate") or 0)
    assert 0 < held <= 100_000
    with pytest.raises(OverBudget):  # the guess holds what is left, and only while the job lives
        store.accept(making.job(owner="ann"), quota=quota)
    store.cancel(job.id)
    store.accept(making.job(owner="ann"), quota=quota)


def test_a_known_size_that_is_too_large_for_what_is_left_is_refused(
    store: JobStore, board: Board
) -> None:
    run(store, board)
    device_s = 2 * true_s()
    with pytest.raises(OverBudget):
        store.accept(making.job(owner="ann"), quota=Quota(daily_device_s=device_s - 1))
    store.accept(making.job(owner="ann"), quota=Quota(daily_device_s=device_s + 1))
