"""A short run: the faults that matter most, each once, on the whole service."""

from __future__ import annotations

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.run import draw, run

SHORT = ("worker SIGSTOP beyond its lease", "Redis SIGKILL", "message late", "worker SIGKILL")


def test_a_seed_draws_the_same_faults_again_and_each_kind_before_any_twice() -> None:
    first, again = (
        [(fault.name, random.random()) for fault, random in draw(7, 100, FAULTS)] for _ in range(2)
    )
    assert first == again
    assert {name for name, _ in first[: len(FAULTS)]} == {fault.name for fault in FAULTS}
    assert first != [(fault.name, random.random()) for fault, random in draw(8, 100, FAULTS)]


@pytest.mark.timeout(900)  # seconds where cores are free, minutes where others run gangs too
def test_no_job_is_lost_or_doubled_whatever_dies() -> None:
    kinds = [fault for fault in FAULTS if fault.name in SHORT]

    outcome = run(2, len(SHORT), kinds=kinds, gpus=1)  # none of them strikes a rank

    assert [str(violation) for violation in outcome.violations] == []
    assert outcome.ends["completed"] > 0
    assert len([strike for strike in outcome.strikes if strike.recovered_s is not None]) == len(
        SHORT
    )
