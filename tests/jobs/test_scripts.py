"""The Lua scripts against the pure table of `jobs.states`, on a real server, in any order of calls."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)

from jobs.errors import Conflict, NotFound
from jobs.record import Job, JobError
from jobs.relay.board import Board, Running
from jobs.states import EDGES, State
from jobs.store import Hold, JobStore
from tests.jobs import making

ERROR = JobError(code="error", message="it broke")
CAP = 2
WORKERS = ("w1", "w2", "w3")


@dataclass
class Expected:
    """What the table says of a job."""

    job: Job
    state: State = State.QUEUED
    release: int | None = None
    """Its unclaimed release."""
    releases: int = 0
    fence: str = ""
    worker: str = ""
    fences: list[str] = field(default_factory=list)
    committed: str = ""
    ended: tuple[str, str, State] | None = None
    """The last end that its worker or the relay made: event, fence and answer, given again."""
    failures: int = 0
    lost: int = 0

    def follow(self, event: str, *, at_cap: bool = False) -> State | None:
        """Go the table's edge; None: there is none."""
        targets = [e.target for e in EDGES if (e.source, e.event) == (self.state, event)]
        if not targets:
            return None
        if len(targets) > 1:
            targets = [t for t in targets if (t is State.FAILED) == at_cap]
        (self.state,) = targets
        if event != "claim":
            self.fence = ""
        self.release = None
        return self.state


T = TypeVar("T")
Held = tuple[str, str]
"""Job id and a fence that was its once."""


class Scripts(RuleBasedStateMachine):
    """Calls in any order, each sent once or twice, under fences new and old."""

    url = ""
    jobs: Bundle[str] = Bundle("jobs")
    fences: Bundle[Held] = Bundle("fences")
    twice = st.booleans()

    def __init__(self) -> None:
        super().__init__()
        limits = making.settings(self.url, max_failures=CAP, max_lost=CAP)
        self.store = JobStore.connect(limits)
        self.store.redis.flushdb()
        self.board = Board(self.store, "me")
        self.board.lead(600)
        self.expected: dict[str, Expected] = {}
        self.deleted: dict[str, Expected] = {}
        self.busy: dict[str, Held] = {}
        self.held: dict[str, set[Held]] = {worker: set() for worker in WORKERS}
        self.drained: set[str] = set()
        self.asked: set[Held] = set()
        """To be handed back."""
        self.states = dict.fromkeys(WORKERS, "")
        """As each worker has announced itself; empty: not, or too long ago."""
        self.events: set[str] = set()

        for worker in WORKERS:
            self.announce(worker, "ready")

    def teardown(self) -> None:
        self.store.redis.close()

    def call(self, act: Callable[[], T], *, twice: bool) -> T:
        """As redis-py does when an answer is lost: the same script again, with the same answer."""
        answer = act()
        if twice:
            assert act() == answer
        return answer

    def ended(self, job_id: str) -> None:
        expected = self.expected[job_id]
        if expected.state.terminal and expected.job.webhook_url:
            self.events.add(f"evt_{job_id}_{expected.state}")

    @initialize(target=jobs)
    def first(self) -> str | MultipleResults[str]:
        return self.submit("ada", 0, hook=True, twice=False)

    @rule(
        target=jobs,
        owner=st.sampled_from(["ada", "bob"]),
        priority=st.integers(0, 1),
        hook=st.booleans(),
        twice=twice,
    )
    def submit(
        self, owner: str, priority: int, *, hook: bool, twice: bool
    ) -> str | MultipleResults[str]:
        url = "https://example.com/" if hook else None
        job = making.job(owner=owner, priority=priority, webhook_url=url, max_waiting_s=0)
        assert self.call(lambda: self.store.submit(job), twice=twice) == job
        self.expected[job.id] = Expected(job)
        return job.id

    @rule(free=st.integers(1, 3), twice=twice)
    def release(self, free: int, *, twice: bool) -> None:
        before = sum(e.release is not None for e in self.expected.values())
        unclaimed = self.call(lambda: self.board.release("tiny", free), twice=twice)
        for release in unclaimed:
            expected = self.expected[release.job_id]
            if expected.release is None:
                assert release.number == expected.releases + 1
                expected.releases += 1
                expected.release = release.number
            assert expected.release == release.number
        waiting = [e for e in self.expected.values() if e.state is State.QUEUED]
        assert len(unclaimed) == max(before, min(free, len(waiting)))

    @rule(job_id=jobs, age=st.integers(0, 1))
    def unrelease(self, job_id: str, age: int) -> None:
        expected = self.expected.get(job_id) or self.deleted[job_id]
        fits = expected.release is not None and age == 0 and job_id in self.expected
        assert self.store.unrelease(job_id, expected.releases - age) == fits
        if fits:
            expected.release = None

    @rule(target=fences, job_id=jobs, worker=st.sampled_from(WORKERS), age=st.integers(0, 1))
    def claim(self, job_id: str, worker: str, age: int) -> Held | MultipleResults[Held]:
        expected = self.expected.get(job_id) or self.deleted[job_id]
        job = self.store.claim(job_id, expected.releases - age, worker)
        current = expected.release is not None and age == 0 and job_id in self.expected
        takes = self.states[worker] == "ready" and worker not in self.drained | self.busy.keys()
        if not current or not takes:
            assert job is None
            if current:
                expected.release = None
            return multiple()
        assert job is not None
        assert expected.follow("claim") is job.state
        expected.fence = job.fence
        expected.worker = worker
        expected.fences.append(job.fence)
        assert job.attempt == len(expected.fences)
        self.busy[worker] = job_id, job.fence
        self.held[worker].add((job_id, job.fence))
        return job_id, job.fence

    @rule(worker=st.sampled_from(WORKERS), state=st.sampled_from(["ready", "starting", ""]))
    def announce(self, worker: str, state: str) -> None:
        name = f"t:worker:{worker}"
        if state:
            info = making.worker(worker, state=state)
            self.store.redis.set(name, info.model_dump_json())
        else:
            self.store.redis.delete(name)
        self.states[worker] = state

    @rule(target=fences, worker=st.sampled_from(WORKERS))
    def start(self, worker: str) -> Held | MultipleResults[Held]:
        """What claim alone seldom reaches: a free worker is given whatever is released."""
        self.gang_free(worker)
        self.release(3, twice=False)
        released = sorted(i for i, e in self.expected.items() if e.release is not None)
        return self.claim(released[0], worker, 0) if released else multiple()

    def holds(self, held: Held) -> Expected | None:
        expected = self.expected.get(held[0])
        return expected if expected and expected.fence == held[1] else None

    @rule(held=fences)
    def beat(self, held: Held) -> None:
        held_ = Hold.HAND_BACK if held in self.asked else Hold.HELD
        assert self.store.beat(*held) is (held_ if self.holds(held) else Hold.LOST)

    @rule(held=fences, twice=twice)
    def complete(self, held: Held, *, twice: bool) -> None:
        files = [making.artifact(*held)]
        answer = self.call(lambda: self.store.complete(*held, files, making.usage()), twice=twice)
        assert answer == (self.end("complete", held) is State.COMPLETED)

    @rule(held=fences, twice=twice)
    def fail(self, held: Held, *, twice: bool) -> None:
        answer = self.call(lambda: self.store.fail(*held, ERROR), twice=twice)
        assert answer == (self.end("fail", held) is State.FAILED)

    @rule(held=fences, twice=twice)
    def retry(self, held: Held, *, twice: bool) -> None:
        answer = self.call(lambda: self.store.retry(*held, ERROR), twice=twice)
        assert answer is self.end("retry", held)

    @rule(held=fences, twice=twice)
    def hand_back(self, held: Held, *, twice: bool) -> None:
        answer = self.call(lambda: self.store.hand_back(*held), twice=twice)
        assert answer == (self.end("hand_back", held) is State.QUEUED)

    @rule(held=fences, late=st.booleans(), twice=twice)
    def lose(self, held: Held, *, late: bool, twice: bool) -> None:
        beat = self.store.get(held[0]).beat if self.holds(held) else 0
        silent = Running(held[0], held[1], str(beat - late))
        answer = self.call(lambda: self.board.lose(silent), twice=twice)
        changes = not (late and self.holds(held))
        assert answer is (self.end("lose", held) if changes else None)

    @rule(held=fences, twice=twice)
    def requeue(self, held: Held, *, twice: bool) -> None:
        answer = self.call(lambda: self.store.scripts("requeue", *held), twice=twice)
        assert answer == self.end("requeue", held)

    @rule(
        worker=st.sampled_from(WORKERS),
        how=st.sampled_from(["finish", "hand_back", "undo"]),
        twice=twice,
    )
    def drain(self, worker: str, how: str, *, twice: bool) -> None:
        answer = self.call(lambda: self.store.scripts("drain", worker, how), twice=twice)
        if not self.states[worker]:
            assert answer is None
            return
        taken = self.busy.get(worker) if how == "hand_back" else None
        asked = taken if taken and self.holds(taken) else None
        if asked:
            self.asked.add(asked)
        assert answer == ([asked[0]] if asked else [])
        self.drained = self.drained - {worker} if how == "undo" else self.drained | {worker}

    def end(self, event: str, held: Held) -> State | None:
        """What the table says that the event does under this fence."""
        expected = self.expected.get(held[0])
        if expected is None:
            return None
        if expected.ended and expected.ended[:2] == (event, held[1]):
            return expected.ended[2]
        if not self.holds(held):
            return None
        expected.failures += event == "retry"
        expected.lost += event == "lose"
        tries = {"retry": expected.failures, "lose": expected.lost}.get(event, 0)
        state = expected.follow(event, at_cap=tries >= CAP)
        assert state is not None
        expected.ended = (event, held[1], state)
        if state is State.COMPLETED:
            expected.committed = held[1]
        self.ended(held[0])
        if event not in ("lose", "requeue"):  # its worker says so itself
            self.held[expected.worker].discard(held)
            if self.busy.get(expected.worker) == held:
                del self.busy[expected.worker]
        return state

    @rule(worker=st.sampled_from(WORKERS))
    def gang_free(self, worker: str) -> None:
        if worker in self.busy:
            self.over(worker, self.busy[worker])

    @rule(worker=st.sampled_from(WORKERS), held=fences)
    def over(self, worker: str, held: Held) -> None:
        """Also an old attempt, when the worker has the next one of the same job."""
        self.store.gang_free(worker, *held)
        if self.busy.get(worker) == held:
            del self.busy[worker]
        if not self.holds(held):
            self.held[worker].discard(held)

    @rule(job_id=jobs, twice=twice)
    def cancel(self, job_id: str, *, twice: bool) -> None:
        def act() -> State | str:
            try:
                return self.store.cancel(job_id).state
            except (Conflict, NotFound) as error:
                return type(error).__name__

        answer = self.call(act, twice=twice)
        expected = self.expected.get(job_id)
        if expected is None:
            assert answer == "NotFound"
        elif expected.follow("cancel"):
            assert answer is State.CANCELLED
            self.ended(job_id)
        else:
            assert answer == ("cancelled" if expected.state is State.CANCELLED else "Conflict")

    @rule(job_id=jobs)
    def expire(self, job_id: str) -> None:
        expected = self.expected.get(job_id)
        fails = (
            expected is not None and not expected.fences and expected.follow("expire") is not None
        )
        assert self.store.expire(job_id, ERROR) == fails
        if fails:
            self.ended(job_id)

    @rule(job_id=jobs)
    def delete(self, job_id: str) -> None:
        expected = self.expected.get(job_id)
        if expected is None:
            return
        self.store.delete(job_id)
        if expected.follow("cancel"):
            self.ended(job_id)
        self.deleted[job_id] = self.expected.pop(job_id)

    @invariant()
    def records_are_as_the_table_says(self) -> None:
        for job_id, expected in self.expected.items():
            job = self.store.get(job_id)
            assert job.state is expected.state
            assert (job.failures, job.lost) == (expected.failures, expected.lost)
            assert job.attempt == len(expected.fences)
            assert (job.completed_at is not None) == job.state.terminal
            if job.state is State.IN_PROGRESS:
                assert job.fence == expected.fence

    @invariant()
    def the_order_holds_what_waits(self) -> None:
        queued = {i for i, e in self.expected.items() if e.state is State.QUEUED}
        released = {i for i in queued if self.expected[i].release is not None}
        assert int(self.store.redis.get("t:queued") or 0) == len(queued)
        assert {release.job_id for release in self.board.released()} == released
        queues, owners, levels = {}, set(), set()
        for key in self.store.redis.scan_iter("t:queue:*"):
            _, _, priority, owner, _ = key.split(":")
            queues[key] = self.store.redis.zrange(key, 0, -1)
            owners.add((priority, owner))
            levels.add(priority)
        assert {i for ids in queues.values() for i in ids} == queued - released
        assert owners == {
            (key.split(":")[2], owner)
            for key in self.store.redis.scan_iter("t:order:*")
            for owner in self.store.redis.zrange(key, 0, -1)
        }
        assert set(self.store.redis.zrange("t:levels:tiny", 0, -1)) == levels

    @invariant()
    def what_runs_is_watched_and_busy(self) -> None:
        running = {(i, e.fence) for i, e in self.expected.items() if e.state is State.IN_PROGRESS}
        assert {(seen.job_id, seen.fence) for seen in self.board.running()} == running
        busy = {worker: "/".join(held) for worker, held in self.busy.items()}
        assert self.store.redis.hgetall("t:gangs") == busy
        for worker, attempts in self.held.items():
            assert self.store.redis.smembers(f"t:held:{worker}") == {"/".join(a) for a in attempts}

    @invariant()
    def every_attempt_but_the_committed_one_is_swept(self) -> None:
        jobs = {**self.expected, **self.deleted}
        uncommitted = {
            f"{i}/{fence}/" for i, e in jobs.items() for fence in e.fences if fence != e.committed
        }
        noted = set(self.store.redis.zrange("t:sweep", 0, -1))
        assert uncommitted <= noted
        assert not {f"{i}/{e.committed}/" for i, e in self.expected.items()} & noted

    @invariant()
    def every_end_is_told_once(self) -> None:
        assert set(self.store.redis.zrange("t:outbox", 0, -1)) == self.events


@pytest.mark.timeout(600)  # a failure takes long to shrink
def test_scripts_follow_the_table(redis_url: str) -> None:
    Scripts.url = redis_url
    run_state_machine_as_test(
        Scripts,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
