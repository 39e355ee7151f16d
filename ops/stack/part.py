"""One part of the stack: what it is, and the process that is it now."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from ops.stack.child import bound

BACKOFF_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
STEADY_S = 60.0
"""A part that lived this long starts over with the shortest back-off."""


def _always(_pid: int) -> bool:
    return True


def _nothing(_pid: int) -> None:
    pass


@dataclass(frozen=True)
class Part:
    """A process to keep alive."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    ready: Callable[[int], bool] = _always
    """Asked again and again, a second at most each time, with the pid; True once the part serves."""
    died: Callable[[int], None] = _nothing
    """Told the pid of a process that ended though nobody asked it to."""
    ready_s: float | None = 60.0
    """Patience at start-up; None waits for ever."""
    stop_s: float = 2.0
    """From SIGTERM to SIGKILL, at least: it also gets what those stopped before it left of theirs."""


@dataclass
class Child:
    """A part's life: its process, and when to start the next one after a death."""

    part: Part
    process: subprocess.Popen[bytes] | None = None
    due: float = 0.0
    """When to start it next, `time.monotonic()`."""
    deaths: int = 0
    started: float = 0.0
    starts: int = 0

    def start(self) -> int:
        """Start the process in a session of its own; returns a descriptor to read its output from.

        Raises:
            OSError: there is no memory or descriptor for it now; the next try is due later.
        """
        self.started = time.monotonic()
        self.starts += 1
        reader, writer = os.pipe()
        try:
            self.process = subprocess.Popen(
                bound(self.part.command),
                env=dict(self.part.env),
                stdin=subprocess.DEVNULL,
                stdout=writer,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError:
            os.close(reader)
            self._back_off()
            raise
        finally:
            os.close(writer)
        return reader

    def reap(self) -> tuple[int, int] | None:
        """Pid and exit code when the process has just been found dead; sets when the next is due."""
        if self.process is None:
            return None
        peek = os.WEXITED | os.WNOHANG | os.WNOWAIT
        if os.waitid(os.P_PID, self.process.pid, peek) is None:
            return None
        # Before the pid is free for others: what it leaves behind may hold its port.
        self._kill_group()
        ended = (self.process.pid, self.process.wait())
        self.process = None
        self._back_off()
        return ended

    def terminate(self) -> None:
        """Ask it to stop."""
        if self.process is not None:
            self.process.terminate()

    def kill(self) -> None:
        """End it and whatever else is in its process group."""
        if self.process is not None:
            self._kill_group()
            self.process.wait()
            self.process = None

    def _back_off(self) -> None:
        now = time.monotonic()
        if now - self.started > STEADY_S:
            self.deaths = 0
        self.due = now + BACKOFF_S[min(self.deaths, len(BACKOFF_S) - 1)]
        self.deaths += 1

    def _kill_group(self) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
