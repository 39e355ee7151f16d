"""Signals as something to select on, so that the supervisor needs no handler that does work."""

from __future__ import annotations

import signal
import socket
from types import FrameType
from typing import Any, Self

STOP = frozenset({signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
_CAUGHT = (*sorted(STOP), signal.SIGCHLD)


class Signals:
    """While open, stop signals and SIGCHLD only make `fileno()` readable. Main thread only."""

    def __enter__(self) -> Self:
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        self._wakeup = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._before: dict[signal.Signals, Any] = {
            number: signal.signal(number, _nothing) for number in _CAUGHT
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        """For a selector."""
        return self._reader.fileno()

    def stops(self) -> int:
        """How many stop signals came since the last call; empties the pipe."""
        try:
            numbers = self._reader.recv(4096)
        except BlockingIOError:
            return 0
        return sum(number in STOP for number in numbers)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    """Python only writes to the wake-up descriptor for signals that have a handler."""
