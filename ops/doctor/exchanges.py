"""Every exchange between ranks, tried on real ranks, each against the clock."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Self

from ops.doctor.finding import Finding, ok, problem
from ops.doctor.problems import fix_for
from ops.stack.child import bound

JOIN = "join"
_JOIN_S = 90.0
"""torch is loaded before ranks can meet."""

TRIAL = (sys.executable, "-m", "pipeline.parallel.trial")


@dataclass
class _Tried:
    """What the ranks said."""

    ranks: int
    done: dict[str, dict[int, str]] = field(default_factory=dict)
    """Exchange -> rank -> what was wrong, or nothing."""
    under_way: str = JOIN

    def hear(self, line: str) -> None:
        with contextlib.suppress(json.JSONDecodeError):  # a library that talks
            event = json.loads(line)
            self.under_way = event["exchange"]
            if "problem" in event:
                self.done.setdefault(self.under_way, {})[event["rank"]] = event["problem"]


def exchanges(
    ranks: int, device: str | None, timeout_s: float, command: Sequence[str] = TRIAL
) -> list[Finding]:
    """Try them between `ranks` processes; `timeout_s` is for each exchange."""
    tried = _Tried(ranks)
    with tempfile.TemporaryDirectory(prefix="rushes-doctor-") as directory:
        place = [f"--world-size={ranks}", f"--rendezvous={Path(directory) / 'store'}"]
        if device is not None:
            place.append(f"--device={device}")
        with _Ranks([[*command, f"--rank={rank}", *place] for rank in range(ranks)]) as running:
            late = running.listen(tried, timeout_s)
    return _findings(tried, late, timeout_s, running.last_words)


class _Ranks:
    """Rank processes and what they say, while open; none is left behind."""

    def __init__(self, commands: Sequence[Sequence[str]]) -> None:
        self.last_words = [""] * len(commands)
        """The last line that each wrote to stderr."""
        self._lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._processes = [
            subprocess.Popen(
                bound(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
            for command in commands
        ]
        self._readers = [
            threading.Thread(target=read, args=(rank, stream), daemon=True)
            for rank, process in enumerate(self._processes)
            for read, stream in ((self._read, process.stdout), (self._remember, process.stderr))
        ]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for reader in self._readers:
            reader.join()

    def listen(self, tried: _Tried, timeout_s: float) -> bool:
        """Hear every rank to its end; True if they fell silent for too long."""
        speaking = len(self._processes)
        ends = time.monotonic() + _JOIN_S
        while speaking:
            try:
                line = self._lines.get(timeout=max(0.0, ends - time.monotonic()))
            except queue.Empty:
                return True
            if line is None:
                speaking -= 1
                continue
            tried.hear(line)
            if tried.under_way != JOIN or len(tried.done.get(JOIN, {})) == tried.ranks:
                ends = time.monotonic() + timeout_s
        return False

    def _read(self, _rank: int, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self._lines.put(line)
        self._lines.put(None)

    def _remember(self, rank: int, stream: IO[str]) -> None:
        with stream:
            for line in stream:
                self.last_words[rank] = line.strip() or self.last_words[rank]


def _findings(tried: _Tried, late: bool, timeout_s: float, errors: list[str]) -> list[Finding]:
    found = []
    for name, answers in tried.done.items():
        wrong = [f"rank {rank}: {what}" for rank, what in sorted(answers.items()) if what]
        if wrong:
            found.append(problem("exchange", f"{name}: {wrong[0]}", fix_for(wrong[0], _fix())))
        elif len(answers) == tried.ranks:
            found.append(ok("exchange", f"{name} between {tried.ranks} ranks"))
    if any(finding.state == "problem" for finding in found):
        return found
    last = tried.under_way
    if late:
        waited = _JOIN_S if last == JOIN else timeout_s
        what = f"{last}: no answer within {waited:g} s"
        found.append(problem("exchange", what, fix_for(f"{what}: all_reduce no answer")))
    elif len(tried.done.get(last, {})) < tried.ranks:
        said = next(filter(None, errors), "a rank ended without a word")
        found.append(problem("exchange", f"{last}: {said}", fix_for(said, _fix())))
    return found


def _fix() -> str:
    return fix_for("failed to initialize distributed")
