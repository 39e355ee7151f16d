"""One try of a job: run it on the gang, store what it made, write down how it ended.

A try ends in one of four ways: done; Lost (the job is not ours any more); HandedBack (this worker
is leaving, or could not go on through no fault of the job); TryFailed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from jobs.artifacts import ArtifactStore
from jobs.errors import NotFound, StoreUnavailable
from jobs.record import Artifact, Job, JobError, Progress, Resumed, Usage
from jobs.states import State
from jobs.store import JobStore
from pipeline.gang import protocol
from pipeline.gang.gang import GangDied
from worker import checkpoints
from worker.beat import Beat, Held
from worker.checkpoints import Checkpoints, Damaged, Pace
from worker.endings import HandedBack, Lost, TryFailed
from worker.supervisor import Supervisor
from worker.timeline import Timeline
from worker.transfers import Transfers

log = structlog.get_logger()

STORE_BACKOFF_S = 0.5
SETTLE_S = 30.0
"""How long a try that ended early waits for its last checkpoint to be stored."""

T = TypeVar("T")


class Attempt:
    """One try, on a task's own thread."""

    def __init__(
        self,
        held: Held,
        *,
        worker_id: str,
        store: JobStore,
        artifacts: ArtifactStore,
        beat: Beat,
        supervisor: Supervisor,
        draining: threading.Event,
        store_retry_s: float,
        pace: Pace,
        preview_s: float,
    ) -> None:
        """`store_retry_s`: how long to wait for an artifact store that is away; `pace`: checkpoints'.

        `preview_s`: how often those who watch see what is being made; 0: never.
        """
        self._held = held
        self._job = held.job
        self._worker_id = worker_id
        self._store = store
        self._artifacts = artifacts
        self._beat = beat
        self._supervisor = supervisor
        self._draining = draining
        self._preview_s = preview_s
        self.timeline = Timeline()
        """Where it was when, so far."""
        self._pace = pace
        self.transfers = Transfers(
            held, artifacts, draining=draining, store_retry_s=store_retry_s, note=self._note
        )
        """What it fetches before the run, and stores after it."""

    def run(self, directory: Path) -> protocol.Done:
        """Generate on the gang into `directory`; the gang is free again when this returns.

        Raises:
            Lost, HandedBack, TryFailed: it came to nothing.
        """
        outputs = self._job.request.outputs()
        run = protocol.Run(
            run_id=f"{self._job.id}/{self._job.fence}",
            directory=str(directory),
            items=tuple(
                protocol.RunItem(
                    request=output, file=name, previews=True, live_every_s=self._preview_s
                )
                for output, name in zip(outputs, file_names(self._job), strict=True)
            ),
            checkpoint_steps=self._pace.steps,
            checkpoint_s=self._pace.seconds,
            resume=self._fetch_checkpoint(directory),
        )
        kept = Checkpoints(self._job, directory, self._store, self._artifacts)
        if not run.resume:
            kept.begin_anew()
        with closing(kept):
            answer, died = self._generate(run, kept)
            if isinstance(answer, protocol.Done):
                return answer
            if not self._held.lost.is_set():
                kept.settle(SETTLE_S)
        self._still_ours()
        if self._held.overdue.is_set():
            message = f"it ran for longer than {self._job.max_running_s} s"
            raise TryFailed(JobError(code="run_timeout", message=message), again=False)
        if died:
            raise TryFailed(JobError(code="gang_died", message=died), again=True)
        if answer is None:
            raise HandedBack
        failure = JobError(code=answer.code, message=answer.message)
        raise TryFailed(failure, again=answer.code in {"error", "cancelled"})

    def _generate(
        self, run: protocol.Run, kept: Checkpoints
    ) -> tuple[protocol.Done | protocol.Failed | None, str]:
        """The gang's answer, which is free again; without one, how it died."""
        work = self._supervisor.submit(
            run, partial(self._on_news, kept=kept, directory=Path(run.directory))
        )
        self._held.work = work
        if self._held.lost.is_set() or self._leaves():
            self._supervisor.cancel(work)  # it came between the claim and here
        try:
            return work.outcome.result(), ""
        except GangDied as error:
            return None, str(error)
        except CancelledError:
            return None, ""
        finally:
            self._held.work = None
            self._gang_free()

    def _fetch_checkpoint(self, directory: Path) -> str:
        """What the run is to go on from, copied into `directory`; empty: nothing."""
        checkpoint = self._job.checkpoint
        if checkpoint is None:
            return ""
        self._note("fetching", 0, 1)
        try:
            checkpoints.fetch(checkpoint, directory, self.transfers.fetch_file)
        except (Damaged, NotFound) as error:
            log.warning("begins anew: the checkpoint is of no use", error=str(error))
            self._held.resumed = Resumed(
                item=0, step=0, steps=checkpoint.steps, refused="what was stored of it is not there"
            )
            return ""
        return checkpoints.RESUME

    def complete(
        self, done: protocol.Done, artifacts: tuple[Artifact, ...], *, devices: int
    ) -> None:
        """Commit.

        Raises:
            Lost: refused.
        """
        timings_s: dict[str, float] = {}
        for result in done.results:
            for stage, seconds in result.timings_s.items():
                timings_s[stage] = timings_s.get(stage, 0.0) + seconds
        usage = Usage(
            device_s=(done.ended_at - done.started_at) * devices,
            peak_memory_bytes=done.peak_memory_bytes,
            timings_s=timings_s,
            started_at=done.started_at,
            ended_at=done.ended_at,
        )
        job = self._job
        self._held.ending = True
        took = self.timeline.seconds()
        if not persist(
            lambda: self._store.complete(job.id, job.fence, artifacts, usage, seconds=took)
        ):
            raise Lost
        log.info("completed", device_s=round(usage.device_s, 2))

    def hand_back(self) -> None:
        """Return the job unharmed."""
        self._held.ending = True
        if persist(lambda: self._store.hand_back(self._job.id, self._job.fence)):
            log.info("handed back")
        else:
            self.let_go()

    def let_go(self) -> None:
        """The attempt was taken from this worker and is over: its gang and its slot are free."""
        self._gang_free()

    def end(self, failure: TryFailed) -> State | None:
        """Write a failed try down. Queued again or failed; None: the job is not ours any more."""
        log.warning("the try failed", code=failure.error.code, message=failure.error.message)
        self._held.ending = True
        job = self._job
        state: State | None = None
        if failure.again:
            state = persist(lambda: self._store.retry(job.id, job.fence, failure.error))
        elif persist(lambda: self._store.fail(job.id, job.fence, failure.error)):
            state = State.FAILED
        if state is None:
            self.let_go()
        return state

    def _gang_free(self) -> None:
        job = self._job
        persist(lambda: self._store.gang_free(self._worker_id, job.id, job.fence))

    def _still_ours(self) -> None:
        if self._held.lost.is_set():
            raise Lost
        if self._leaves():
            raise HandedBack

    def _leaves(self) -> bool:
        """Whether this worker, or only its gang, is to be without the job."""
        return self._draining.is_set() or self._held.handing_back.is_set()

    def _on_news(self, news: protocol.News, *, kept: Checkpoints, directory: Path) -> None:
        match news:
            case protocol.Progress():
                if news.preview is not None:
                    with suppress(OSError):  # nothing that a job should fail for
                        self._held.preview = (directory / news.preview).read_bytes()
                self._note(news.stage, news.step, news.steps, item=news.item)
            case protocol.Checkpoint():
                kept.put(news)
            case protocol.Resumed():
                log.info(
                    "goes on" if not news.refused else "begins anew",
                    job=self._job.id,
                    attempt=self._job.fence,
                    item=news.item,
                    step=news.step,
                    refused=news.refused,
                )
                if news.refused and not news.item:
                    kept.begin_anew()
                self._held.resumed = Resumed(
                    item=news.item, step=news.step, steps=news.steps, refused=news.refused
                )

    def _note(self, stage: str, step: int, steps: int, *, item: int = 0) -> None:
        items = self._job.request.num_outputs
        self.timeline.note(stage, item, step)
        noted = Progress(stage=stage, step=step, steps=steps, item=item, items=items)
        self._beat.note(self._held, noted)


def file_names(job: Job) -> tuple[str, ...]:
    """What the job's files are called, in the attempt's folder and in their keys."""
    request = job.request
    name = "image" if request.makes_image else "video"
    if request.num_outputs == 1:
        return (f"{name}{request.suffix}",)
    return tuple(f"{name}-{i}{request.suffix}" for i in range(1, request.num_outputs + 1))


def persist(write: Callable[[], T]) -> T:
    """Do it, however long the store is away. Who cannot wait that long ends the process."""
    while True:
        try:
            return write()
        except StoreUnavailable as error:
            log.warning("waiting for the store", error=str(error))
            time.sleep(STORE_BACKOFF_S)
