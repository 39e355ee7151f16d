"""RUSHES_HOME: one running `serve` at a time, and where the others learn what it started."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Self

from pydantic import BaseModel

from jobs.errors import SettingsError


class Run(BaseModel):
    """What a running `serve` tells other commands of the same home."""

    pid: int
    redis_url: str
    api_url: str


class Home:
    """A locked home. The kernel holds the lock: it ends with the process, however that dies."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = -1

    def __enter__(self) -> Self:
        """Create the home where missing and lock it.

        Raises:
            SettingsError: another process holds it, or it cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = os.open(self.path / "serve.lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise SettingsError(
                f"RUSHES_HOME {self.path} cannot be used: {error.strerror}"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 32).decode().strip() or "unknown"
            os.close(lock)
            raise SettingsError(
                f"RUSHES_HOME {self.path} is in use by another rushes serve (pid {holder}): stop it, "
                "or set RUSHES_HOME to another folder"
            ) from None
        os.truncate(lock, 0)
        os.write(lock, f"{os.getpid()}\n".encode())
        self._lock = lock
        return self

    def __exit__(self, *_: object) -> None:
        (self.path / "run.json").unlink(missing_ok=True)
        os.close(self._lock)

    def announce(self, run: Run) -> None:
        """Write `run` where `running` finds it."""
        fresh = self.path / "run.json.new"
        fresh.touch(mode=0o600)
        fresh.write_text(run.model_dump_json())
        fresh.replace(self.path / "run.json")


def running(path: Path) -> Run | None:
    """What the `serve` of this home has announced; None when none runs or is not that far."""
    try:
        run = Run.model_validate_json((path / "run.json").read_bytes())
        os.kill(run.pid, 0)  # a killed serve leaves the file behind
    except (OSError, ValueError):
        return None
    return run
