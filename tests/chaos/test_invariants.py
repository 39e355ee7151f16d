"""Each invariant, on a history that keeps it and on histories that break it."""

from __future__ import annotations

import json

import pytest

from tests.chaos.aof import Change
from tests.chaos.history import Delivery, History
from tests.chaos.invariants import Evidence, check

JOB = "video_1"
KEY = f"jobs/{JOB}/2-b/video.mp4"


def files(*names: str) -> str:
    return json.dumps([{"key": f"jobs/{JOB}/{name}", "sha256": "1"} for name in names])


Step = dict[str, str]
STEPS: tuple[Step, ...] = (
    {"state": "queued", "attempt": "0"},
    {"state": "in_progress", "attempt": "1", "fence": "1-a", "worker": "worker_1"},
    {"state": "queued", "fence": "", "worker": "", "lost": "1"},
    {"state": "in_progress", "attempt": "2", "fence": "2-b", "worker": "worker_2"},
    {"state": "completed", "artifacts": files("2-b/video.mp4")},
)
"""A job whose first worker was killed."""


def history() -> History:
    seen = History(parts={"worker_1": "worker-0", "worker_2": "worker-1"})
    seen.promise("request-1", JOB)
    for status in ("queued", "in_progress", "completed"):
        seen.tell(JOB, status)
    with seen.hit("worker-0", "worker SIGKILL"):
        pass
    seen.hits[0].began = seen.hits[0].ended = 101.0
    seen.deliveries.append(Delivery("evt_1", JOB, "video.completed", "completed"))
    return seen


def evidence(
    *more: Step, steps: tuple[Step, ...] = STEPS, seen: History | None = None, **changes: object
) -> Evidence:
    record: dict[str, str] = {}
    made = []
    for at, step in enumerate((*steps, *more), 100):
        after = record | step
        made.append(Change(float(at), JOB, record, after))
        record = after
    given = {"stored": frozenset({KEY})} | changes
    return Evidence(history=seen or history(), changes=tuple(made), **given)  # type: ignore[arg-type]


def failed(code: str, **changes: str) -> Step:
    return {"state": "failed", "error": json.dumps({"code": code}), **changes}


def broken(seen: Evidence) -> set[str]:
    return {violation.invariant for violation in check(seen)}


def test_a_job_that_was_lost_with_its_worker_and_tried_again_breaks_nothing() -> None:
    assert check(evidence()) == []


@pytest.mark.parametrize(
    ("seen", "invariant"),
    [
        (evidence(steps=STEPS[:4]), "every_promise_is_kept"),
        (evidence({"state": "in_progress"}), "only_known_edges"),
        (evidence({"state": "failed", "failures": "5", "error": "{}"}), "only_known_edges"),
        (
            evidence({"state": "in_progress", "attempt": "3", "fence": "3-c"}),
            "attempts_only_rise",
        ),
        (evidence({"attempt": "1"}), "attempts_only_rise"),
        (evidence({"artifacts": files("2-b/other.mp4")}), "one_fence_commits"),
        (
            evidence(
                {"artifacts": files("1-a/video.mp4"), "state": "completed"},
                steps=STEPS[:4],
            ),
            "one_fence_commits",
        ),
        (evidence(unreadable={KEY: "moov atom not found"}), "artifacts_decode"),
        (evidence({"artifacts": ""}), "artifacts_decode"),
        (
            evidence(stored=frozenset({KEY, f"jobs/{JOB}/1-a/video.mp4"})),
            "nothing_uncommitted_stays",
        ),
        (evidence({"state": "failed"}, steps=STEPS[:4]), "failures_are_earned"),
        (evidence(failed("worker_lost", lost="9"), steps=STEPS[:4]), "failures_are_earned"),
        (evidence(failed("error", failures="4", lost="9"), steps=STEPS[:4]), "failures_are_earned"),
        (evidence(orphans=("123 rank",)), "nothing_outlives_the_stop"),
        (evidence(books={"queued": "1"}), "the_books_are_even"),
    ],
)
def test_what_breaks_it_is_named(seen: Evidence, invariant: str) -> None:
    assert invariant in broken(seen)


@pytest.mark.parametrize(
    ("steps", "limits", "fine"),
    [
        ((*STEPS[:2], failed("run_timeout")), {"max_running_s": 2}, True),
        ((*STEPS[:2], failed("run_timeout")), {"max_running_s": 3}, False),  # too soon
        ((*STEPS[:2], failed("run_timeout")), {}, False),  # nobody set it
        ((STEPS[0], failed("queue_timeout", created_at="100")), {"max_waiting_s": 1}, True),
        ((STEPS[0], failed("queue_timeout", created_at="100")), {"max_running_s": 1}, False),
        ((*STEPS[:3], failed("queue_timeout", created_at="90")), {"max_waiting_s": 1}, False),
    ],
)
def test_a_deadline_ends_only_what_is_late(
    steps: tuple[Step, ...],
    limits: dict[str, int],
    fine: bool,
) -> None:
    seen = history()
    seen.limits[JOB] = limits
    found = broken(evidence(steps=steps, seen=seen))
    assert ("deadlines_end_what_is_late" not in found) == fine
    assert "failures_are_earned" not in found


def test_a_try_that_is_taken_without_a_fault_is_named() -> None:
    seen = history()
    seen.hits.clear()
    assert broken(evidence(seen=seen)) == {"tries_end_for_a_reason"}
    with seen.hit("worker-1", "of another worker"):
        pass
    seen.hits[0].began = seen.hits[0].ended = 101.0
    assert broken(evidence(seen=seen)) == {"tries_end_for_a_reason"}


@pytest.mark.parametrize("code", ["worker_lost", "error"])
def test_a_job_fails_at_the_cap_of_what_ended_its_tries(code: str) -> None:
    at_cap = failed(code, **({"lost": "10"} if code == "worker_lost" else {"failures": "5"}))
    assert "failures_are_earned" not in broken(evidence(at_cap, steps=STEPS[:4]))


HANDED_BACK: Step = {"state": "queued", "fence": "", "worker": ""}


def test_a_job_that_is_handed_back_without_a_fault_is_named() -> None:
    seen = history()
    seen.hits.clear()
    steps = (*STEPS[:2], HANDED_BACK, *STEPS[3:])
    assert broken(evidence(steps=steps, seen=seen)) == {"tries_end_for_a_reason"}
    with seen.hit("worker-0", "worker SIGTERM"):
        assert broken(evidence(steps=steps, seen=seen)) == {"tries_end_for_a_reason"}, "long after"
    seen.hits[0].began = seen.hits[0].ended = 101.0
    assert broken(evidence(steps=steps, seen=seen)) == set()


@pytest.mark.parametrize(("asked", "fine"), [("1-a", True), ("0-z", False)])
def test_a_job_may_be_handed_back_to_make_room(asked: str, fine: bool) -> None:
    seen = history()
    seen.hits.clear()
    steps = (*STEPS[:2], {"preempt": asked}, HANDED_BACK, *STEPS[3:])
    assert (broken(evidence(steps=steps, seen=seen)) == set()) == fine


def test_a_second_job_for_one_request_and_a_job_of_nobody_are_named() -> None:
    seen = history()
    seen.promise("request-1", "video_2")
    assert "one_job_for_one_request" in broken(evidence(seen=seen))
    seen = history()
    seen.accepted.clear()
    assert "one_job_for_one_request" in broken(evidence(seen=seen))


def test_webhooks_that_are_missing_or_tell_something_else_are_named() -> None:
    for wrong in (
        [],
        [Delivery("evt_1", JOB, "video.failed", "failed")],
        [Delivery(webhook, JOB, "video.completed", "completed") for webhook in ("evt_1", "evt_2")],
    ):
        seen = history()
        seen.deliveries[:] = wrong
        assert broken(evidence(seen=seen)) == {"webhooks_tell_the_end"}


def test_a_resumed_job_that_gives_another_file_is_named() -> None:
    seen = history()
    seen.twins[JOB] = "video_2"
    assert "resumed_jobs_give_the_same" not in broken(evidence(seen=seen, steps=STEPS[:1]))
    assert "resumed_jobs_give_the_same" in broken(
        evidence({"artifacts": files("2-b/video.mp4")}, seen=seen, steps=STEPS[:4])
    )


def test_an_api_that_takes_an_end_back_is_named() -> None:
    seen = history()
    seen.tell(JOB, "in_progress")
    seen.tell(JOB, "completed")
    assert broken(evidence(seen=seen)) == {"only_known_edges"}
