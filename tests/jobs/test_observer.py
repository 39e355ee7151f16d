from structlog.testing import capture_logs

from jobs.relay.board import Running
from jobs.relay.observer import Observer

JOB = Running("video_1", "1-a", "4")
LEASE_S = 15.0


def looks(observer: Observer, start: float, stop: float, beat: str = "4") -> int:
    """Look every second from `start` to before `stop`; how often a job was silent."""
    silent = 0
    now = start
    while now < stop:
        silent += len(observer.look([Running(JOB.job_id, JOB.fence, beat)], now))
        now += 1.0
    return silent


def observer() -> Observer:
    return Observer(LEASE_S, max_gap_s=2.0)


def test_a_job_unchanged_for_the_lease_is_silent() -> None:
    seen = observer()
    assert looks(seen, 0, LEASE_S) == 0
    assert seen.look([JOB], LEASE_S) == (JOB,)


def test_a_beat_or_a_new_fence_starts_anew() -> None:
    seen = observer()
    looks(seen, 0, 14)
    assert looks(seen, 14, 28, beat="5") == 0
    again = Running(JOB.job_id, "2-b", "5")
    assert seen.look([again], 28.5) == ()


def test_a_gap_in_the_looking_proves_nothing() -> None:
    seen = observer()
    looks(seen, 0, 14)
    assert looks(seen, 14 + 3600, 14 + 3600 + LEASE_S) == 0, "stopped, or Redis was away"
    assert seen.look([JOB], 14 + 3600 + LEASE_S) == (JOB,)


def test_a_gap_is_logged_where_it_costs_what_was_seen() -> None:
    seen = observer()
    with capture_logs() as lines:
        looks(seen, 0, 3)
        seen.look([JOB], 7)
        seen.look([], 8)
        seen.look([], 60)
    (line,) = lines
    assert (line["log_level"], line["gap_s"], line["jobs"]) == ("warning", 5.0, 1)


def test_a_restart_forgets_even_without_a_gap() -> None:
    seen = observer()
    looks(seen, 0, 15)
    seen.restart()
    assert looks(seen, 15, 15 + LEASE_S) == 0


def test_a_job_that_was_away_is_not_remembered() -> None:
    seen = observer()
    looks(seen, 0, 14)
    assert seen.look([], 14.5) == ()
    assert seen.look([JOB], 15.5) == ()
