"""A disk whose fsync takes its time, for one process: a small library put before libc's own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).with_name("slow_disk.c")
SLOW_MS = 300


class SlowDisk:
    """Made once a stack, off at first."""

    def __init__(self, folder: Path) -> None:
        """`folder`: for the library; without a C compiler nothing is made and `missing` says so."""
        compiler = shutil.which("cc")
        self.missing = "" if compiler else "no C compiler (cc)"
        self._flag = folder / "slow"
        self._library = folder / "slow_disk.so"
        if compiler:
            folder.mkdir(parents=True, exist_ok=True)
            command = [compiler, "-shared", "-fPIC", "-o", str(self._library), str(SOURCE), "-ldl"]
            subprocess.run(command, check=True)

    @property
    def env(self) -> dict[str, str]:
        """What the process runs with."""
        if self.missing:
            return {}
        return {
            "LD_PRELOAD": str(self._library),
            "SLOW_FLAG": str(self._flag),
            "SLOW_MS": str(SLOW_MS),
        }

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Every fsync takes `SLOW_MS` longer inside the block."""
        self._flag.touch()
        try:
            yield
        finally:
            self._flag.unlink(missing_ok=True)
