"""One attempt's checkpoints: on their way to the artifact store, and back from it.

A gang leaves them as files in the attempt's directory. A thread of their own stores each and then
lets the record point to it, so that no step waits for the storage. When a newer one is there before,
the older is left out. A finished output is stored with the first checkpoint that has it.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import structlog

from jobs.artifacts import ArtifactStore
from jobs.errors import StorageUnavailable, StoreUnavailable
from jobs.record import Checkpoint, CheckpointFile, Job
from jobs.store import JobStore
from pipeline.gang import protocol

log = structlog.get_logger()

RESUME = "resume"
"""What a checkpoint is called in the directory of the attempt that goes on from it."""
_CONTENT_TYPE = "application/octet-stream"


class Damaged(Exception):
    """A stored file is not what was stored; the message names it."""


@dataclass(frozen=True)
class Pace:
    """How often a run leaves a checkpoint; 0: not for that."""

    steps: int
    seconds: float

    @property
    def on(self) -> bool:
        """Whether there are checkpoints at all."""
        return bool(self.steps or self.seconds)


class Checkpoints:
    """Of one attempt. `put` may be called from any thread; close it."""

    def __init__(
        self, job: Job, directory: Path, store: JobStore, artifacts: ArtifactStore
    ) -> None:
        """`directory`: the attempt's, where the files lie."""
        self._job = job
        self._directory = directory
        self._store = store
        self._artifacts = artifacts
        self._stored = _outputs_of(job.checkpoint)
        self._pending: protocol.Checkpoint | None = None
        self._busy = False
        self._closing = False
        self._change = threading.Condition()
        self._thread: threading.Thread | None = None

    def put(self, checkpoint: protocol.Checkpoint) -> None:
        """Store it soon."""
        with self._change:
            left_out, self._pending = self._pending, checkpoint
            if self._thread is None:
                self._thread = threading.Thread(target=self._live, name="checkpoints", daemon=True)
                self._thread.start()
            self._change.notify_all()
        if left_out is not None:
            self._remove(left_out)

    def begin_anew(self) -> None:
        """Nothing of what earlier attempts have finished is used."""
        self._stored.clear()

    def settle(self, timeout_s: float) -> None:
        """Wait until what was put is stored and pointed to, or given up; not for longer."""
        with self._change:
            self._change.wait_for(lambda: not (self._busy or self._pending), timeout_s)

    def close(self) -> None:
        """Drop what is not begun; what is goes on by itself."""
        with self._change:
            self._closing, self._pending = True, None
            self._change.notify_all()

    def _live(self) -> None:
        while True:
            with self._change:
                self._busy = False
                self._change.notify_all()
                self._change.wait_for(lambda: self._pending or self._closing)
                if self._pending is None:
                    return
                checkpoint, self._pending = self._pending, None
                self._busy = True
            try:
                self._keep(checkpoint)
            except (StorageUnavailable, StoreUnavailable, OSError) as error:
                # The next one comes soon.
                log.warning(
                    "a checkpoint is not stored",
                    job=self._job.id,
                    attempt=self._job.fence,
                    error=str(error),
                )
            self._remove(checkpoint)

    def _keep(self, checkpoint: protocol.Checkpoint) -> None:
        job, began = self._job, time.monotonic()
        number = checkpoint.name.rpartition("-")[2]
        own = f"{job.id}/checkpoints/{job.fence}-{number}/"
        outputs = f"{job.id}/checkpoints/{job.fence}-outputs/"
        files = []
        for name in checkpoint.files:
            is_own = Path(name).stem == checkpoint.name
            if name not in self._stored or is_own:
                key = f"jobs/{own if is_own else outputs}{name}"
                put = self._artifacts.put(key, self._directory / name, _CONTENT_TYPE)
                stored = CheckpointFile(key=key, size_bytes=put.size_bytes, sha256=put.sha256)
                if not is_own:
                    self._stored[name] = stored
            files.append(stored if is_own else self._stored[name])
        record = Checkpoint(
            name=checkpoint.name,
            item=checkpoint.item,
            step=checkpoint.step,
            steps=checkpoint.steps,
            folder=own,
            files=tuple(files),
        )
        if self._store.checkpoint(job.id, job.fence, record):
            log.info(
                "checkpoint",
                job=job.id,
                attempt=job.fence,
                item=checkpoint.item,
                step=checkpoint.step,
                size_bytes=sum(file.size_bytes for file in files),
                seconds=round(time.monotonic() - began, 2),
            )

    def _remove(self, checkpoint: protocol.Checkpoint) -> None:
        for name in checkpoint.files:
            if Path(name).stem == checkpoint.name:
                (self._directory / name).unlink(missing_ok=True)


def fetch(checkpoint: Checkpoint, directory: Path, download: Callable[[str, Path], None]) -> None:
    """Copy the checkpoint's files into `directory`, its own under the name RESUME.

    Args:
        checkpoint: the job's.
        directory: the attempt's.
        download: copies what lies under a key to a path.

    Raises:
        Damaged: a file is another than was stored.
        NotFound: one is gone.
    """
    for file in checkpoint.files:
        name = Path(file.key.rpartition("/")[2])
        stem = RESUME if name.stem == checkpoint.name else name.stem
        path = directory / f"{stem}{name.suffix}"
        download(file.key, path)
        with path.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
        if digest != file.sha256:
            raise Damaged(f"{name} is not what was stored")


def _outputs_of(checkpoint: Checkpoint | None) -> dict[str, CheckpointFile]:
    """The finished outputs that an earlier attempt has stored, by name."""
    if checkpoint is None:
        return {}
    names = ((file.key.rpartition("/")[2], file) for file in checkpoint.files)
    return {name: file for name, file in names if Path(name).stem != checkpoint.name}
