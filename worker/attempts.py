"""Where attempts write their files: `<home>/attempts/<worker id>/<job id>-<fence>/`.

A worker's folder is locked by the kernel for as long as the worker lives, so that the next one to
start knows which folders are nobody's any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.record import Job

ROOM_BYTES = 64 << 20
"""What a disk that works has room for: less than that is soon full of one job's files."""


class Attempts:
    """This worker's folder."""

    def __init__(self, home: Path, worker_id: str) -> None:
        """Make the folder, lock it, and remove those of dead workers."""
        root = home / "attempts"
        root.mkdir(parents=True, exist_ok=True)
        self.folder = root / worker_id
        with _locked(root):  # a folder just made, not locked yet, would look like a dead worker's
            self.folder.mkdir()
            self._lock = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY)
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            for folder in root.iterdir():
                if folder != self.folder:
                    _remove_if_free(folder)

    @contextmanager
    def directory(self, job: Job) -> Iterator[Path]:
        """A fresh folder for this attempt, removed after the block."""
        directory = self.folder / f"{job.id}-{job.fence}"
        directory.mkdir()
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)

    def probe(self) -> None:
        """Write as an attempt would, and leave nothing.

        Raises:
            OSError: the disk is full, broken, read-only or gone.
        """
        with tempfile.TemporaryFile(dir=self.folder) as file:
            os.posix_fallocate(file.fileno(), 0, ROOM_BYTES)
            file.write(b"probe")
            file.flush()
            os.fsync(file.fileno())

    def close(self) -> None:
        """Remove the folder. Closing twice is nothing."""
        shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def _remove_if_free(folder: Path) -> None:
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        pass
    finally:
        os.close(lock)
