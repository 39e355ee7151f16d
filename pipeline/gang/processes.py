"""The rank processes of one start: pipes, sessions, and the one thread that watches them all.

Flow: spawn -> the watcher turns lines from the ranks into messages in `inbox` -> the first rank
that dies takes the others with it (a gang with a hole only hangs) -> one last `Death` in `inbox`.

A rank that is killed closes its sockets, on which the others give up and leave, before it can be seen
to be dead: with gigabytes on a GPU that takes a second. So when one leaves, the others are given
`_LEAVING_S` to leave or to turn out killed.
"""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.gang.protocol import FromRank, Message, ProtocolError, decode_from_rank, encode
from pipeline.options import Device

_LIBRARIES = {"debug": "info", "warning": "error", "error": "critical"}
"""What transformers and diffusers may say at our log level; else warnings."""
_LEAVING_S = 5.0


@dataclass(frozen=True)
class Death:
    """The gang is gone; `reason` names the rank and how it ended."""

    reason: str


class RankProcesses:
    """`size` running ranks. The thread that creates it must live as long as they shall.

    (The parent-death signal of a process follows the thread that made it.)
    """

    def __init__(
        self, size: int, *, rendezvous: Path, device: Device | None, env: Mapping[str, str]
    ) -> None:
        self.inbox: queue.SimpleQueue[FromRank | Death] = queue.SimpleQueue()
        self._first_end: float | None = None
        """When the first rank's death was seen, on the monotonic clock."""
        self._leaving = False
        self._reason = ""
        self._casualty: str | None = None
        self._killed = False
        self._lock = threading.Lock()
        """Held while signalling or reaping: a pid that is reaped may be another's a moment later."""
        self._writing = threading.Lock()
        self._closed = False
        self._processes: list[subprocess.Popen[bytes]] = []
        lifeline, self._lifeline = os.pipe()
        commands, self._commands = os.pipe()
        self._events, events = os.pipe()
        try:
            for rank in range(size):
                fds = {"lifeline": lifeline, "events": events}
                if rank == 0:
                    fds["commands"] = commands
                process = subprocess.Popen(
                    _rank_command(rank, size, rendezvous, device, fds),
                    env=_rank_env(env, rank, size),
                    pass_fds=tuple(fds.values()),
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,
                )
                self._processes.append(process)
        except OSError:
            self._signal_all()
            for process in self._processes:
                process.wait()
            for fd in (self._lifeline, self._commands, self._events):
                os.close(fd)
            raise
        finally:
            for fd in (lifeline, commands, events):
                os.close(fd)
        self._watcher = threading.Thread(target=self._watch, name="gang-watcher", daemon=True)
        self._watcher.start()

    @property
    def alive(self) -> bool:
        """False from the moment the first rank's death was seen."""
        return self._first_end is None

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids, rank by rank."""
        return tuple(process.pid for process in self._processes)

    def send(self, message: Message) -> None:
        """Write one line to rank 0, whole lines from any thread; to a dead one, nothing."""
        line = encode(message)
        with self._writing, contextlib.suppress(BrokenPipeError):
            while line and not self._closed:
                line = line[os.write(self._commands, line) :]

    def leaving(self) -> None:
        """From now on ranks may end one by one."""
        self._leaving = True

    def kill(self, reason: str) -> None:
        """SIGKILL every rank and its children."""
        self._reason = self._reason or reason
        self._signal_all()

    def casualty(self, timeout_s: float) -> str | None:
        """A rank that somebody else's signal has ended, in words, once all are gone.

        What the others then say is only an echo.
        """
        self.join(timeout_s)
        return self._casualty

    def join(self, timeout_s: float) -> bool:
        """Wait until every rank is gone and reaped; False: some are still there."""
        self._watcher.join(timeout_s)
        return not self._watcher.is_alive()

    def close(self) -> None:
        """Close the parent's ends. Only after `join` came back True; closing twice is nothing."""
        with self._writing:
            if self._closed:
                return
            self._closed = True
            for fd in (self._lifeline, self._commands, self._events):
                os.close(fd)

    def _signal_all(self) -> None:
        self._killed = True
        with self._lock:
            for process in self._processes:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)

    def _watch(self) -> None:
        buffer = bytearray()
        with selectors.DefaultSelector() as selector, contextlib.ExitStack() as stack:
            selector.register(self._events, selectors.EVENT_READ)
            for rank, process in enumerate(self._processes):
                pidfd = os.pidfd_open(process.pid)
                stack.callback(os.close, pidfd)
                selector.register(pidfd, selectors.EVENT_READ, rank)
            while len(selector.get_map()) > 0:
                # What a rank said last comes before its death.
                left_s = self._left_s()
                ready = sorted(selector.select(left_s), key=lambda pair: pair[0].data is not None)
                if left_s == 0:
                    self._signal_all()
                for key, _ in ready:
                    if key.data is not None:
                        selector.unregister(key.fd)
                        self._on_end(key.data)
                    elif not self._on_line(buffer):
                        selector.unregister(key.fd)
        self.inbox.put(Death(self._reason or "the gang left"))

    def _left_s(self) -> float | None:
        """Until those are killed who stayed when one left; None: nobody is to be."""
        if self._first_end is None or self._killed or self._leaving:
            return None
        return max(0.0, self._first_end + _LEAVING_S - time.monotonic())

    def _on_line(self, buffer: bytearray) -> bool:
        """Read what is there; False at the end of the pipe."""
        chunk = os.read(self._events, 65536)
        buffer += chunk
        *lines, rest = bytes(buffer).split(b"\n")
        buffer[:] = rest
        for line in lines:
            try:
                self.inbox.put(decode_from_rank(line))
            except ProtocolError as error:
                self.kill(f"a rank broke the protocol: {error}")
        return bool(chunk)

    def _on_end(self, rank: int) -> None:
        process = self._processes[rank]
        with self._lock:
            # Its children go first, while the unreaped rank keeps the group's id from reuse.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        if not self._leaving:
            reason = describe(rank, code)
            # NCCL's watchdog aborts its process when a peer has left: that is an echo too.
            echo = self._first_end is not None and code == -signal.SIGABRT
            if code < 0 and not self._killed and not echo:
                self._casualty = self._reason = reason
                self._signal_all()
            self._reason = self._reason or reason
        if self._first_end is None:
            self._first_end = time.monotonic()


def describe(rank: int, code: int) -> str:
    """How a rank ended, in words, from its exit status (negative: a signal)."""
    if code < 0:
        return f"rank {rank} was killed by {signal.Signals(-code).name}"
    return f"rank {rank} exited with status {code}"


def _rank_command(
    rank: int, size: int, rendezvous: Path, device: Device | None, fds: Mapping[str, int]
) -> list[str]:
    given = {
        "rank": rank,
        "world-size": size,
        "rendezvous": rendezvous,
        "device": device,
        **fds,
    }
    options = [f"--{name}={value}" for name, value in given.items() if value is not None]
    return [sys.executable, "-m", "pipeline.gang.rank", *options]


def _is_withheld(name: str) -> bool:
    name = name.upper()
    if name.startswith("RUSHES_"):
        return name != "RUSHES_LOG_LEVEL"
    return name.startswith(("AWS_", "FLOWER_", "CELERY_", "OTEL_"))


def _rank_env(env: Mapping[str, str], rank: int, size: int) -> dict[str, str]:
    """What a rank needs of `env`: it opens no Redis and no bucket, and gets no secret of theirs."""
    level = env.get("RUSHES_LOG_LEVEL", "info")
    return {
        # One host, so the loopback does unless somebody chose an interface.
        "GLOO_SOCKET_IFNAME": "lo",
        "TRANSFORMERS_VERBOSITY": _LIBRARIES.get(level, "warning"),
        "DIFFUSERS_VERBOSITY": _LIBRARIES.get(level, "warning"),
        # OpenMP's threads spin while they wait for each other; on cores that others use too a clip
        # then takes 36 s instead of 4. Read when torch is loaded, so it must be there before.
        "OMP_WAIT_POLICY": "PASSIVE",
        **{name: value for name, value in env.items() if not _is_withheld(name)},
        "RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_RANK": str(rank),
        "LOCAL_WORLD_SIZE": str(size),
    }
