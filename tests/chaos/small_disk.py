"""A small disk for the files of a worker's attempts: a tmpfs that its own processes alone see.

It lies in a mount namespace of the worker's, so it goes with the worker, whatever becomes of the suite.
"""

from __future__ import annotations

import errno
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

SIZE = "128m"
"""Twice what `worker.attempts` wants free."""
ZEROS = bytes(1 << 20)


class SmallDisk:
    """Where every worker has one of its own."""

    def __init__(self, folder: Path) -> None:
        """`folder`: is made; where nobody may mount there, workers write to it and `missing` says so."""
        folder.mkdir(parents=True)
        self._folder = folder
        self.missing = "no unshare (util-linux)"
        if shutil.which("unshare"):
            tried = subprocess.run(
                self.command(["true"]), check=False, capture_output=True, text=True
            )
            self.missing = tried.stderr.strip()

    def command(self, command: Sequence[str]) -> list[str]:
        """The command that runs `command` with such a disk, in the same process."""
        mount = f'mount -t tmpfs -o size={SIZE} rushes "$0" && exec "$@"'
        return ["unshare", "--mount", "sh", "-c", mount, str(self._folder), *command]

    @contextmanager
    def full(self, pid: int) -> Iterator[None]:
        """The disk of the worker that is this process has no byte left inside the block (ENOSPC)."""
        balloon = Path(f"/proc/{pid}/root{self._folder}/balloon")
        try:
            with balloon.open("wb", buffering=0) as file, _until_full():
                while True:
                    file.write(ZEROS)
        except FileNotFoundError:
            pass  # the worker is gone, and its disk with it
        try:
            yield
        finally:
            with suppress(OSError):
                balloon.unlink()


@contextmanager
def _until_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
