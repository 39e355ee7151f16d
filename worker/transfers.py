"""A try's files on their way from and to the artifact store, over its outages."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from jobs.artifacts import ArtifactStore, StoredFile
from jobs.errors import NotFound, StorageUnavailable
from jobs.inputs import input_key
from jobs.record import Artifact, JobError
from pipeline.gang import protocol
from pipeline.request import INPUTS
from worker.beat import Held
from worker.endings import HandedBack, Lost, TryFailed

log = structlog.get_logger()

STORAGE_BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
LOOK_S = 0.25
"""How soon one who waits for the storage sees that this worker is leaving."""

T = TypeVar("T")


class Transfers:
    """Of one try, on its task's own thread."""

    def __init__(
        self,
        held: Held,
        artifacts: ArtifactStore,
        *,
        draining: threading.Event,
        store_retry_s: float,
        note: Callable[[str, int, int], None],
    ) -> None:
        """`store_retry_s`: how long to wait for a store that is away.

        `note`: hears the stage (fetching, storing), how many files are done, and of how many.
        """
        self._held = held
        self._job = held.job
        self._artifacts = artifacts
        self._draining = draining
        self._store_retry_s = store_retry_s
        self._note = note

    def fetch(self, directory: Path) -> None:
        """Copy the job's input images into `directory`, where the gang looks for them.

        Raises:
            Lost, HandedBack, TryFailed: it came to nothing.
        """
        names = self._job.request.images
        if not names:
            return
        folder = directory / INPUTS
        folder.mkdir()
        for index, name in enumerate(names):
            self._note("fetching", index, len(names))
            key = input_key(self._job.id, name)
            self._patiently("fetch", key, partial(self._download, key, folder / name))

    def fetch_file(self, key: str, path: Path) -> None:
        """Copy one stored file to `path`.

        Raises:
            NotFound: it is not there.
            Lost, HandedBack, TryFailed: it came to nothing.
        """
        self._patiently("fetch", key, partial(self._read, key, path))

    def store(self, done: protocol.Done, directory: Path) -> tuple[Artifact, ...]:
        """Upload what the run made into `directory`, each file for as long as it takes, within bounds.

        Raises:
            Lost, HandedBack, TryFailed: it came to nothing.
        """
        results = done.results
        artifacts = []
        for index, result in enumerate(results):
            self._note("storing", index, len(results))
            key = f"jobs/{self._job.id}/{self._job.fence}/{result.file}"
            path = directory / result.file
            stored = self._put(key, path, result.content_type)
            whole = Artifact(
                kind=result.content_type.partition("/")[0],
                key=key,
                content_type=result.content_type,
                size_bytes=stored.size_bytes,
                sha256=stored.sha256,
                width=result.width,
                height=result.height,
                num_frames=result.num_frames,
                fps=result.fps,
                seed=result.seed,
            )
            artifacts += [whole, *(self._store_beside(whole, side, path) for side in result.beside)]
        self._note("storing", len(results), len(results))
        return tuple(artifacts)

    def _store_beside(self, whole: Artifact, side: protocol.SideFile, path: Path) -> Artifact:
        """Upload a picture of the output `whole`, which lies at `path`."""
        key = f"{whole.key.rpartition('/')[0]}/{side.file}"
        stored = self._put(key, path.with_name(side.file), side.content_type)
        return whole.model_copy(
            update={
                "kind": side.kind,
                "key": key,
                "content_type": side.content_type,
                "size_bytes": stored.size_bytes,
                "sha256": stored.sha256,
                "width": side.width,
                "height": side.height,
                "num_frames": 1,
            }
        )

    def _put(self, key: str, path: Path, content_type: str) -> StoredFile:
        return self._patiently("store", key, lambda: self._artifacts.put(key, path, content_type))

    def _download(self, key: str, path: Path) -> None:
        try:
            self._read(key, path)
        except NotFound as error:
            failure = JobError(code="input_missing", message="an input image is gone")
            raise TryFailed(failure, again=False) from error

    def _read(self, key: str, path: Path) -> None:
        with closing(self._artifacts.read(key)) as chunks, path.open("wb") as file:
            file.writelines(chunks)

    def _patiently(self, doing: str, key: str, act: Callable[[], T]) -> T:
        """Do something with the artifact store, over an outage of at most `store_retry_s`.

        What it refuses (a wrong secret) is waited for too: somebody may mend it meanwhile.
        """
        ends = time.monotonic() + self._store_retry_s
        failures = 0
        while not self._held.lost.is_set():
            try:
                return act()
            except StorageUnavailable as error:
                # Its text is for the log: it names the bucket and what is wrong with it.
                log.warning(f"cannot {doing} yet", key=key, error=str(error))
                left_s = ends - time.monotonic()
                if left_s <= 0:
                    failure = JobError(code=error.code, message=self._away(error))
                    raise TryFailed(failure, again=False) from error
            delay_s = STORAGE_BACKOFF_S[min(failures, len(STORAGE_BACKOFF_S) - 1)]
            self._pause(min(delay_s, left_s))
            failures += 1
        raise Lost

    def _away(self, error: StorageUnavailable) -> str:
        """For the client: how long, and of a disk what it says of itself, without a path."""
        said = error.__cause__.strerror if isinstance(error.__cause__, OSError) else None
        return f"the storage was away for {self._store_retry_s:g} s" + (f": {said}" if said else "")

    def _pause(self, delay_s: float) -> None:
        """Wait; less when the job is lost.

        Raises:
            HandedBack: this worker is leaving.
        """
        ends = time.monotonic() + delay_s
        while (left_s := ends - time.monotonic()) > 0 and not self._held.lost.is_set():
            if self._draining.is_set():
                raise HandedBack
            self._held.lost.wait(min(left_s, LOOK_S))
