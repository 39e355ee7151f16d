"""How a worker leaves, within `drain_s` whatever happens.

Take nothing more; stop what runs at a checkpoint, store that and hand the job back; let uploads finish
while there is time; stop the gang; say goodbye. Celery's own warm shutdown waits without bound, so the way out is ours.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from collections.abc import Callable
from types import FrameType

import celery.worker.state
import structlog

from jobs.errors import EXIT_REFUSED, StoreUnavailable
from worker.beat import of
from worker.task import Worker

log = structlog.get_logger()

STOP_PART = 0.4
"""Of `drain_s`: how long a run may take to its next step boundary before its gang is killed."""
STORE_PART = 0.6
"""Of `drain_s`, from its beginning: how long uploads may go on."""


_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_BROKEN = b"\0"  # no signal has this number, nor that one
_REFUSED = b"\xff"


class Leave:
    """When the worker leaves, and with which exit code: what came first counts."""

    def __init__(self) -> None:
        self._reader, self._writer = socket.socketpair()
        self._writer.setblocking(False)

    def listen(self) -> None:
        """Hear SIGTERM and SIGINT, however often they come, and threads that die of an error.

        Through the wake-up descriptor: Python runs handlers on the main thread only, and a lock that
        it waits for hears nothing of a signal that the kernel gave to another thread.
        """
        signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, _nothing)
        threading.excepthook = self._on_broken_thread

    def broken(self) -> None:
        """A part that should live as long as the worker does not; leave with exit code 1."""
        self._send(_BROKEN)

    def refused(self) -> None:
        """The worker can never serve; leave with exit code EXIT_REFUSED."""
        self._send(_REFUSED)

    def wait(self) -> int:
        """Block until it is time; the exit code. No signal is heard any more after it."""
        first = self._reader.recv(1)
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        return {_BROKEN: 1, _REFUSED: EXIT_REFUSED}.get(first, 0)

    def close(self) -> None:
        """Let go of the descriptors; nothing may listen any more."""
        self._reader.close()
        self._writer.close()

    def _send(self, why: bytes) -> None:
        with contextlib.suppress(BlockingIOError):
            self._writer.send(why)

    def _on_broken_thread(self, args: threading.ExceptHookArgs) -> None:
        error = args.exc_value
        log.error("a thread broke", thread=args.thread and args.thread.name, exc_info=error)
        self.broken()


def _nothing(number: int, frame: FrameType | None) -> None:
    """Python only writes to the wake-up descriptor for signals that have a handler."""


def drain(worker: Worker, drain_s: float) -> None:
    """Leave in order. Parts of it may hang with Redis or a disk: bound it from outside."""
    began = time.monotonic()
    log.info("draining", jobs=[held.job.id for held in worker.beat.held])
    worker.draining.set()
    celery.worker.state.should_stop = 0  # as Celery's own handler of SIGTERM does
    for held in worker.beat.held:
        if held.work:
            worker.supervisor.cancel(held.work, checkpoint=worker.pace.on)
    worker.presence.enter("draining")
    _wait(lambda: not any(held.work for held in worker.beat.held), began + STOP_PART * drain_s)
    for held in worker.beat.held:
        if held.work:
            log.warning("a run does not stop: killing the gang", **of(held))
            worker.supervisor.kill(held.work)
    _wait(lambda: not worker.beat.held, began + STORE_PART * drain_s)
    for held in worker.beat.held:
        log.warning("not stored in time: handing back", **of(held))
        with contextlib.suppress(StoreUnavailable):
            worker.store.hand_back(held.job.id, held.job.fence)
    worker.supervisor.stop()
    worker.beat.stop()
    worker.presence.withdraw()
    worker.attempts.close()
    log.info("left", seconds=round(time.monotonic() - began, 1))


def _wait(done: Callable[[], bool], until: float) -> None:
    while not done() and time.monotonic() < until:
        time.sleep(0.02)
