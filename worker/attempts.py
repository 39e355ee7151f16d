"""Where attempts write their files: `<home>/attempts/<worker id>/<job id>-<fence>/`.

A worker's folder is locked by the kernel for as long as the worker lives, so that the next one to
start knows which folders are nobody's any more.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.record import Job


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
