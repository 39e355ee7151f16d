from jobs.relay.board import Release
from jobs.relay.releaser import ReleaseWatch, free_gangs
from jobs.workers import LiveWorker
from tests.jobs import making

FIRST, SECOND = Release("video_1", 1, "tiny"), Release("video_2", 1, "tiny")


def live(worker_id: str, held: int = 0, gang_attempt: str = "", **changes: object) -> LiveWorker:
    jobs = frozenset(f"video_{number}/1-a" for number in range(held))
    return LiveWorker(making.worker(worker_id, **changes), jobs, gang_attempt)


def test_only_ready_idle_gangs_with_a_free_slot_count() -> None:
    workers = [
        live("idle"),
        live("storing", held=1),
        live("computing", held=1, gang_attempt="video_0/1-a"),
        live("storing two", held=2),
        live("cancelling", gang_attempt="video_9/1-a"),
        live("starting", state="starting"),
        live("unhealthy", state="unhealthy"),
        live("draining", state="draining"),
        live("other", model="other"),
    ]
    assert free_gangs(workers) == {"tiny": 2, "other": 1}


def test_a_release_unclaimed_for_its_time_returns() -> None:
    watch = ReleaseWatch(5.0)
    assert watch.look([FIRST], 100.0) == ()
    assert watch.look([FIRST, SECOND], 104.9) == ()
    assert watch.look([FIRST, SECOND], 105.0) == (FIRST,)
    assert watch.look([Release("video_1", 2, "tiny")], 105.1) == (), "the next number starts anew"


def test_each_release_is_sent_once_but_again_after_a_restart() -> None:
    watch = ReleaseWatch(5.0)
    assert set(watch.unsent([FIRST, SECOND])) == {FIRST, SECOND}
    watch.look([FIRST, SECOND], 0.0)
    watch.sent(FIRST)
    assert watch.unsent([FIRST, SECOND]) == (SECOND,)
    watch.look([FIRST], 1.0)
    watch.restart()
    assert watch.unsent([FIRST]) == (FIRST,)
