"""What must hold over the whole history. Each function yields what broke it; its name is the invariant's."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from jobs.states import EDGES, TERMINAL, State
from tests.chaos.aof import Change
from tests.chaos.history import History

DEADLINES = {"queue_timeout": "max_waiting_s", "run_timeout": "max_running_s"}
"""By the code of the error: what the client set."""


@dataclass(frozen=True)
class Violation:
    """An invariant that did not hold."""

    invariant: str
    job_id: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.job_id or '-'}: {self.text}"


@dataclass(frozen=True)
class Evidence:
    """All that the invariants are judged by."""

    history: History
    changes: Sequence[Change]
    stored: frozenset[str] = frozenset()
    """Keys in the artifact store after the sweep."""
    unreadable: Mapping[str, str] = field(default_factory=dict)
    """By key of a committed artifact: what is wrong with its bytes."""
    orphans: tuple[str, ...] = ()
    """Command lines of processes that outlived the stop."""
    books: Mapping[str, str] = field(default_factory=dict)
    """By key: what is left of `tests.chaos.books` where every job has ended and every worker left."""
    max_failures: int = 5
    max_lost: int = 10

    @property
    def records(self) -> dict[str, Mapping[str, str]]:
        """Every job as Redis had it in the end."""
        return {change.job_id: change.after for change in self.changes}


def every_promise_is_kept(seen: Evidence) -> Iterator[tuple[str, str]]:
    """An accepted job is there in the end, in a terminal state, and the API says the same."""
    records = seen.records
    for job_id in sorted(seen.history.jobs):
        state = records.get(job_id, {}).get("state", "")
        if state not in TERMINAL:
            yield job_id, f"accepted with 200, in the end it is {state or 'gone'}"
        elif seen.history.told[job_id][-1:] != [state]:
            yield job_id, f"it is {state}, the API told {seen.history.told[job_id]}"


def one_job_for_one_request(seen: Evidence) -> Iterator[tuple[str, str]]:
    """However often a request was repeated, one job came of it; and no job came of nothing."""
    for key, ids in seen.history.accepted.items():
        if len(ids) > 1:
            yield key, f"one Idempotency-Key, several jobs: {sorted(ids)}"
    for job_id in sorted(seen.records.keys() - seen.history.jobs):
        yield job_id, "nobody was told of this job"


def only_known_edges(seen: Evidence) -> Iterator[tuple[str, str]]:
    """States change by the table of `jobs/states.py`, so a terminal state stays."""
    known = {(edge.source.value, edge.target.value) for edge in EDGES} | {("", "queued")}
    for change in seen.changes:
        source, target = change.states
        if source != target and (source, target) not in known:
            yield change.job_id, f"it went from {source or 'nothing'} to {target or 'nothing'}"
    for job_id, statuses in seen.history.told.items():
        if any(status in TERMINAL for status in statuses[:-1]):
            yield job_id, f"the API told {statuses}"


def attempts_only_rise(seen: Evidence) -> Iterator[tuple[str, str]]:
    """By one with each claim, under a fence never used before; and only queued jobs are claimed."""
    fences: dict[str, set[str]] = defaultdict(set)
    for change in seen.changes:
        rise = change.rise("attempt")
        fence = change.after.get("fence", "")
        claimed = bool(fence) and fence != change.before.get("fence")
        if rise != int(claimed):
            yield change.job_id, f"attempt rose by {rise} with the fence {fence or 'none'}"
        if claimed and change.before.get("state") != State.QUEUED:
            yield change.job_id, f"{fence} claimed it while it was {change.before.get('state')}"
        if claimed and fence in fences[change.job_id]:
            yield change.job_id, f"the fence {fence} came twice"
        if claimed:
            fences[change.job_id].add(fence)


def one_fence_commits(seen: Evidence) -> Iterator[tuple[str, str]]:
    """A job's artifacts are written once, under the fence that held it then."""
    commits: Counter[str] = Counter()
    for change in seen.changes:
        files = change.after.get("artifacts")
        if not files or files == change.before.get("artifacts"):
            continue
        commits[change.job_id] += 1
        if commits[change.job_id] > 1:
            yield change.job_id, "committed a second time"
        held = f"jobs/{change.job_id}/{change.before.get('fence')}/"
        for key in artifact_keys(change.after):
            if not key.startswith(held):
                yield change.job_id, f"committed {key} while {held} held it"


def artifacts_decode(seen: Evidence) -> Iterator[tuple[str, str]]:
    """A completed job has a video, and every committed file is there and decodes to what was promised."""
    for job_id, record in seen.records.items():
        if record.get("state") == State.COMPLETED and not artifact_keys(record):
            yield job_id, "completed without artifacts"
    for key, problem in seen.unreadable.items():
        yield key.split("/")[1], f"{key}: {problem}"


def resumed_jobs_give_the_same(seen: Evidence) -> Iterator[tuple[str, str]]:
    """A job that went on from a checkpoint gives the very file of an undisturbed run."""
    for job_id, twin in seen.history.twins.items():
        resumed, whole = (_digests(seen.records.get(each, {})) for each in (job_id, twin))
        if resumed != whole:
            yield job_id, f"{resumed} differs from {whole} of {twin}"


def nothing_uncommitted_stays(seen: Evidence) -> Iterator[tuple[str, str]]:
    """After the sweep the store holds the committed files and nothing else."""
    committed = {key for record in seen.records.values() for key in artifact_keys(record)}
    for key in sorted(seen.stored - committed):
        yield key.split("/")[1], f"left in the store: {key}"


def tries_end_for_a_reason(seen: Evidence) -> Iterator[tuple[str, str]]:
    """A try is taken from its worker, or fails, only where a fault reached that worker meanwhile.

    So an outage of Redis, a stopped relay or a slow disk costs no healthy try. It is handed back, which
    counts against nothing, for a fault or for a higher priority.
    """
    claimed: dict[tuple[str, str], float] = {}
    for change in seen.changes:
        fence = change.after.get("fence", "")
        if fence and fence != change.before.get("fence"):
            claimed[change.job_id, fence] = change.at
        worker, held = change.before.get("worker", ""), change.before.get("fence", "")
        counted = any(change.rise(counter) > 0 for counter in ("lost", "failures"))
        for ended, how in (
            (change.rise("lost") > 0, "taken from"),
            (change.rise("failures") > 0, "failed at"),
            (not counted and _is_handed_back(change), "handed back by"),
        ):
            if not ended:
                continue
            since = claimed.get((change.job_id, held), change.at)
            if not seen.history.was_hit(worker, since, change.at):
                part = seen.history.parts.get(worker, worker)
                error = change.after.get("error", "") if how == "failed at" else ""
                yield (
                    change.job_id,
                    f"attempt {held} was {how} {part}, which no fault had hit {error}",
                )


def failures_are_earned(seen: Evidence) -> Iterator[tuple[str, str]]:
    """A job fails only at the cap of failed or lost tries, or by a deadline, and says why."""
    for job_id, record in seen.records.items():
        if record.get("state") != State.FAILED or _code(record) in DEADLINES:
            continue
        lost = _code(record) == "worker_lost"
        tries = int(record.get("lost" if lost else "failures") or 0)
        if tries < (seen.max_lost if lost else seen.max_failures) or not record.get("error"):
            yield job_id, f"failed after {tries} tries: {record.get('error')}"


def deadlines_end_what_is_late(seen: Evidence) -> Iterator[tuple[str, str]]:
    """A job fails by a deadline only where its client set it, no sooner, and in the queue unstarted."""
    claimed: dict[str, float] = {}
    for change in seen.changes:
        if change.rise("attempt") > 0:
            claimed[change.job_id] = change.at
        code = _code(change.after)
        if (
            change.states[1] != State.FAILED
            or code == _code(change.before)
            or code not in DEADLINES
        ):
            continue
        limit_s = seen.history.limits.get(change.job_id, {}).get(DEADLINES[code])
        began = claimed.get(change.job_id, 0.0)
        if code == "queue_timeout":
            began = float(change.after.get("created_at") or 0)
            if change.job_id in claimed:
                yield change.job_id, f"{code} though it had started"
        if limit_s is None or change.at + 1 < began + limit_s:  # times are cut to whole seconds
            yield change.job_id, f"{code} after {change.at - began:.0f} s of {limit_s}"


def webhooks_tell_the_end(seen: Evidence) -> Iterator[tuple[str, str]]:
    """The end of each job was told at least once, always under one id, and nothing else was told."""
    ids: dict[str, set[str]] = defaultdict(set)
    for delivery in seen.history.deliveries:
        ids[delivery.job_id].add(delivery.webhook_id)
        state = seen.records.get(delivery.job_id, {}).get("state")
        if not delivery.status == delivery.kind.partition(".")[2] == state:
            yield delivery.job_id, f"it is {state}, the webhook told {delivery.kind}"
    for job_id in sorted(seen.history.jobs):
        if len(ids[job_id]) != 1:
            yield job_id, f"webhook ids: {sorted(ids[job_id]) or 'none arrived'}"


def nothing_outlives_the_stop(seen: Evidence) -> Iterator[tuple[str, str]]:
    """No process of the service is left once it was stopped."""
    for orphan in seen.orphans:
        yield "", orphan


def the_books_are_even(seen: Evidence) -> Iterator[tuple[str, str]]:
    """Where every job has ended none is counted, ordered, released, held or awaited any more."""
    for key, held in seen.books.items():
        yield "", f"{key} still holds {held}"


INVARIANTS: tuple[Callable[[Evidence], Iterator[tuple[str, str]]], ...] = (
    every_promise_is_kept,
    one_job_for_one_request,
    only_known_edges,
    attempts_only_rise,
    one_fence_commits,
    artifacts_decode,
    resumed_jobs_give_the_same,
    nothing_uncommitted_stays,
    tries_end_for_a_reason,
    failures_are_earned,
    deadlines_end_what_is_late,
    webhooks_tell_the_end,
    nothing_outlives_the_stop,
    the_books_are_even,
)


def check(seen: Evidence) -> list[Violation]:
    """Every violation of every invariant."""
    return [
        Violation(invariant.__name__, job_id, text)
        for invariant in INVARIANTS
        for job_id, text in invariant(seen)
    ]


def artifact_keys(record: Mapping[str, str]) -> list[str]:
    """Of the files that the record has committed."""
    return [artifact["key"] for artifact in json.loads(record.get("artifacts") or "[]")]


def _is_handed_back(change: Change) -> bool:
    """It was queued again, and that not because the relay or an admin asked its worker to make room."""
    asked = change.before.get("preempt") == change.before.get("fence")
    return change.states == (State.IN_PROGRESS, State.QUEUED) and not asked


def _code(record: Mapping[str, str]) -> str:
    code: str = json.loads(record.get("error") or "{}").get("code", "")
    return code


def _digests(record: Mapping[str, str]) -> list[str]:
    return [artifact["sha256"] for artifact in json.loads(record.get("artifacts") or "[]")]
