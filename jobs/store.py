"""The job store as API and workers use it: thin over one Lua script per edge and act.

The relay's side is `jobs.relay.board`. Every script is atomic and idempotent, compares before it sets,
and is the only way a state changes; `jobs/scripts/prelude.lua` lists the keys.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from enum import IntEnum
from types import MappingProxyType
from typing import cast

from pydantic import TypeAdapter

from jobs.connection import argument, pairs, translated
from jobs.cost import work_units
from jobs.errors import Conflict, KeyReused, NotFound, StoreUnavailable
from jobs.looks import look_of
from jobs.outlook import Look
from jobs.reader import JobReader
from jobs.record import (
    Artifact,
    Checkpoint,
    Job,
    JobError,
    Progress,
    Resumed,
    Usage,
    decode,
    encode,
    new_nonce,
)
from jobs.states import State
from jobs.submission import DELETED, NO_QUOTA, OTHER_BODY, Once, Quota, refusal

_ARTIFACTS = TypeAdapter(tuple[Artifact, ...])


class Hold(IntEnum):
    """What a beat is answered."""

    LOST = 0
    """The job is not the worker's any more: stop."""
    HELD = 1
    HAND_BACK = 2
    """One of higher priority waits: leave a checkpoint and hand it back."""


class JobStore(JobReader):
    """The durable jobs, to look at and to move on.

    Every method raises `StoreUnavailable` when Redis does not answer or refuses writes.
    """

    # What clients do -----------------------------------------------------------------------------

    def submit(self, job: Job) -> Job:
        """Make a job durable and queue it. The same id again gives the job that is there.

        Raises:
            QueueFull: `max_queued` jobs wait already.
        """
        return self.accept(job).job

    def accept(self, job: Job, *, once: Once | None = None, quota: Quota = NO_QUOTA) -> Look:
        """`submit` within its owner's limits; the same idempotency key gives the job that is there.

        Raises:
            QueueFull: `max_queued` jobs wait already, the owner's own or everybody's.
            OverBudget: the owner's device-seconds of this day are used up.
            KeyReused: the idempotency key was used with another body, or its job is deleted.
            StorageUnavailable: its input images were not stored after `expect_inputs`, or too slowly.
        """
        fields = [part for field in encode(job).items() for part in field]
        answer, *rest = self.scripts(
            "submit",
            job.id,
            self.settings.max_queued,
            work_units(job.request),
            job.model,
            once.key if once else "",
            once.body if once else "",
            argument(quota.max_queued),
            argument(quota.daily_device_s and round(1000 * quota.daily_device_s)),
            "1" if job.request.images else "",
            *fields,
        )
        if answer != "ok":
            raise refusal(answer, rest, self.settings.max_queued, quota)
        return look_of(rest)

    def accepted(self, owner: str, once: Once) -> Look | None:
        """The job that `owner` was given for this idempotency key; None: the key is new.

        Raises:
            KeyReused: the key was used with another body, or its job is deleted.
        """
        with translated():
            before = cast("str | None", self.redis.get(self.key("once", owner, once.key)))
        if before is None:
            return None
        job_id, _, body = before.partition(" ")
        if body != once.body:
            raise KeyReused(OTHER_BODY)
        try:
            return self.look(job_id)
        except NotFound:
            raise KeyReused(DELETED) from None

    def expect_inputs(self, job_id: str) -> None:
        """Input images of a job to come are about to be stored: swept, unless it is submitted soon."""
        self.scripts("expect_inputs", job_id)

    def cancel(self, job_id: str, *, owner: str | None = None) -> Job:
        """Cancel a live job; one that is cancelled already is given back as it is.

        Raises:
            NotFound: no such job, or not `owner`'s.
            Conflict: it has completed or failed.
        """
        flat = self.scripts("cancel", job_id, owner or "")
        if flat is None:
            raise NotFound(f"no job {job_id!r}")
        job = decode(pairs(flat))
        if job.state is not State.CANCELLED:
            raise Conflict(f"job {job_id} is {job.state} already")
        return job

    def delete(self, job_id: str, *, owner: str | None = None) -> None:
        """Cancel the job if it is live and remove it; the relay sweeps its files.

        Raises:
            NotFound: no such job, or not `owner`'s.
        """
        if not self.scripts("delete", job_id, owner or "", new_nonce()):
            raise NotFound(f"no job {job_id!r}")

    def expire(self, job_id: str, error: JobError) -> bool:
        """Fail a queued job that has not started by its deadline. False: it is not, or not yet."""
        return self.scripts("expire", job_id, error.model_dump_json()) is not None

    # What workers do -----------------------------------------------------------------------------

    def claim(self, job_id: str, release: int, worker_id: str) -> Job | None:
        """Take a released job under a new fence and mark the worker's gang busy.

        None: refused, because the release is not the current one, the job is not queued, or the gang
        computes another job, is not ready or not announced (it then goes back to the order). Raise
        Celery's `Ignore`.
        """
        flat = self.scripts("claim", job_id, release, worker_id, new_nonce())
        return None if flat is None else decode(pairs(flat))

    def unrelease(self, job_id: str, release: int) -> bool:
        """Return a released job unclaimed: this worker cannot take it now, another may at once."""
        return bool(self.scripts("unrelease", job_id, release))

    def beat(
        self,
        job_id: str,
        fence: str,
        progress: Progress | None = None,
        resumed: Resumed | None = None,
    ) -> Hold:
        """Raise the beat; say where the job stands, and where it went on."""
        texts = ["" if news is None else news.model_dump_json() for news in (progress, resumed)]
        return Hold(self.scripts("beat", job_id, fence, *texts))

    def checkpoint(self, job_id: str, fence: str, checkpoint: Checkpoint) -> bool:
        """Let the next attempt go on from there: its files are stored. False: refused."""
        return bool(self.scripts("checkpoint", job_id, fence, checkpoint.model_dump_json()))

    def show_preview(self, job_id: str, fence: str, image: bytes) -> None:
        """Let those who watch the job see a small WebP, until the next or for a minute."""
        text = base64.b64encode(image).decode()
        self.scripts("show_preview", job_id, fence, text)

    def gang_free(self, worker_id: str, job_id: str, fence: str) -> None:
        """The gang has stopped computing this attempt, though it may still have to be stored.

        Call it after every run, a cancelled or refused one too, and once more when an attempt that was
        taken from its worker is over: nothing else frees what it holds there, and sweeps what it stored
        late.
        """
        self.scripts("gang_free", worker_id, job_id, fence)

    def complete(
        self,
        job_id: str,
        fence: str,
        artifacts: Sequence[Artifact],
        usage: Usage,
        *,
        seconds: Mapping[str, float] = MappingProxyType({}),
    ) -> bool:
        """Commit the artifacts. False: refused, and the files are noted for the sweep.

        `seconds` is for /metrics: `step`, a mean step of the denoising, and `store`.
        """
        files = _ARTIFACTS.dump_json(tuple(artifacts)).decode()
        answer = self.scripts(
            "complete",
            job_id,
            fence,
            files,
            usage.model_dump_json(),
            usage.device_s,
            json.dumps(dict(seconds)),
        )
        return answer is not None

    def fail(self, job_id: str, fence: str, error: JobError) -> bool:
        """End the job with an error that another try would not cure. False: refused."""
        return self.scripts("fail", job_id, fence, error.model_dump_json()) is not None

    def retry(self, job_id: str, fence: str, error: JobError) -> State | None:
        """A gang death or an error while running. None: refused.

        QUEUED again, or FAILED with `error` once `max_failures` tries have ended so.
        """
        text = error.model_dump_json()
        answer = self.scripts("retry", job_id, fence, text, self.settings.max_failures)
        return None if answer is None else State(answer)

    def hand_back(self, job_id: str, fence: str) -> bool:
        """Return a running job unharmed (drain, preemption); counts as no failure. False: refused."""
        return self.scripts("hand_back", job_id, fence) is not None

    def cancels(self, stop: threading.Event) -> Iterator[str]:
        """Ids of running jobs as they are cancelled, until `stop`; reconnects by itself.

        A hint only: one sent while disconnected is lost, the refused beat tells for sure.
        """
        while not stop.is_set():
            try:
                yield from self._listen(stop)
            except StoreUnavailable:
                stop.wait(0.5)

    def _listen(self, stop: threading.Event) -> Iterator[str]:
        with translated(), self.pubsub() as channel:
            channel.subscribe(self.key("cancels"))
            while not stop.is_set():
                message = channel.get_message(timeout=0.5)
                if message is not None and message["type"] == "message":
                    yield message["data"]
