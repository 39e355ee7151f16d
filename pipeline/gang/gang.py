"""The parent's side of a gang: start it, give it runs, cancel, stop. Torch-free.

1. start: spawn the ranks, send Init, wait for Ready.
2. run: send Run, hand News on, return Done or Failed.
3. cancel (any thread): rank 0 hears it while it computes and stops at the next step boundary.
4. A rank that dies takes the gang with it: `run` raises GangDied, `start` may be called again.
5. stop: ask, wait, then kill; stopping what does not run is nothing.
"""

from __future__ import annotations

import math
import os
import queue
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from pipeline.gang.processes import Death, RankProcesses
from pipeline.gang.protocol import (
    VERSION,
    Cancel,
    Done,
    Failed,
    FromRank,
    Init,
    News,
    Progress,
    Ready,
    Run,
    Stop,
)
from pipeline.options import EngineOptions

_LOOK_S = 1.0
"""A wait that took twice as long says that this process itself was stopped meanwhile."""
_KILL_S = 5.0  # SIGKILL needs no more; only a process stuck in the kernel does


class Patience(Protocol):
    """How long a gang may be silent in one run."""

    def allow(self, last: Progress | None) -> float:
        """Seconds that may pass after its last word; None: after the run was given to it."""

    def waited(self, seconds: float | None) -> None:
        """So long it was silent before a word; None: this process was itself stopped meanwhile."""


class GangError(Exception):
    """The gang could not start; the message says why."""


class GangRefused(GangError):
    """Its options or its model cannot be served: another start would end the same."""


class GangDied(Exception):
    """A rank died or the gang was killed; the message names the rank and how."""


class Gang:
    """One gang of `num_gpus` ranks on this host, kept warm between runs. One run at a time.

    `start` must be called on a thread that lives as long as the gang shall; `cancel` and `kill` may
    come from any thread.
    """

    def __init__(
        self,
        options: EngineOptions,
        *,
        num_gpus: int,
        directory: Path,
        env: Mapping[str, str] | None = None,
    ) -> None:
        """Nothing starts yet.

        Args:
            options: what to load. `dp_size` is left out: this is one of those gangs.
            num_gpus: ranks of this gang.
            directory: for the rendezvous; made if missing.
            env: added to this process's environment (visible devices, thread counts).
        """
        self._options = options.model_copy(update={"dp_size": None, "num_gpus": num_gpus})
        self._size = num_gpus
        self._directory = directory
        self._env = dict(env or {})
        self._processes: RankProcesses | None = None
        self._rendezvous: Path | None = None

    @property
    def alive(self) -> bool:
        """True while every rank lives, starting or started."""
        return self._processes is not None and self._processes.alive

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids of the ranks of the last start."""
        return () if self._processes is None else self._processes.pids

    def start(self, timeout_s: float) -> Ready:
        """Start the ranks, load the model and wait until every rank is warm.

        Raises:
            GangRefused: a rank said that the options or the model cannot be served.
            GangError: not Ready in time, or a rank said why it cannot, or died.
        """
        if self.alive:
            raise GangError("the gang runs already")
        self.kill()  # where one rank has ended, the others may still be given time to leave
        self._clear()
        if self._processes is not None:
            raise GangError("a rank of the last start does not die: its device may hang")
        self._directory.mkdir(parents=True, exist_ok=True)
        self._rendezvous = Path(tempfile.mkdtemp(prefix="rendezvous-", dir=self._directory))
        processes = RankProcesses(
            self._size,
            rendezvous=self._rendezvous / "store",
            device=self._options.device,
            env={**os.environ, **self._env},
        )
        self._processes = processes
        processes.send(Init(options=self._options, num_gpus=self._size))
        ends = time.monotonic() + timeout_s
        reason, kind = f"the gang was not ready within {timeout_s:g} s", GangError
        try:
            while True:
                message = processes.inbox.get(timeout=max(0.0, ends - time.monotonic()))
                if isinstance(message, Ready):
                    if message.version == VERSION:
                        return message
                    reason = f"the ranks speak protocol version {message.version}, not {VERSION}"
                    break
                if isinstance(message, Failed):
                    reason = message.message
                    kind = GangRefused if message.code == "refused" else GangError
                    break
                if isinstance(message, Death):
                    reason = message.reason
                    break
        except queue.Empty:
            pass
        self.kill()
        self._clear()
        raise kind(reason)

    def run(
        self,
        run: Run,
        on_news: Callable[[News], None],
        patience: Patience | None = None,
    ) -> Done | Failed:
        """Generate and wait.

        Args:
            run: what to generate.
            on_news: is called on this thread.
            patience: how long the gang may be silent, asked after each of its words; None: for
                ever. One that is silent for longer hangs, as with a stopped rank or in an exchange,
                and is killed.

        Raises:
            GangDied: before or during the run.
        """
        processes = self._processes
        if processes is None:
            raise GangDied("the gang is not started")
        processes.send(run)
        try:
            message = _answer(processes, run.run_id, on_news, patience)
        except _Silent as silent:
            self.kill(f"the gang hung: {silent}")
            raise GangDied(f"the gang hung: {silent}") from None
        except BaseException:
            self.cancel(run.run_id)
            raise
        if isinstance(message, Failed) and message.fatal:
            # Its ranks are about to leave: no later run may meet them on the way out.
            casualty = processes.casualty(_KILL_S)
            self.kill()
            # What the others then die of is an echo of a rank that had too little memory.
            if casualty is not None and message.code != "out_of_memory":
                raise GangDied(casualty)
        return message

    def cancel(self, run_id: str, *, checkpoint: bool = False) -> None:
        """Ask that this run stop at its next step boundary; one that is over is left alone.

        `checkpoint`: it shall leave one there.
        """
        processes = self._processes
        if processes is not None and processes.alive:
            processes.send(Cancel(run_id=run_id, checkpoint=checkpoint))

    def kill(self, reason: str = "the gang was killed by its parent") -> None:
        """SIGKILL every rank now."""
        processes = self._processes
        if processes is not None:
            processes.kill(reason)
            processes.join(_KILL_S)

    def stop(self, timeout_s: float) -> None:
        """Let the ranks leave in order, and kill those that have not within `timeout_s`."""
        processes = self._processes
        if processes is not None:
            processes.leaving()
            processes.send(Stop())
            if not processes.join(timeout_s):
                self.kill()
        self._clear()

    def _clear(self) -> None:
        """Forget the ranks of the last start, once they are gone."""
        processes, rendezvous = self._processes, self._rendezvous
        if processes is not None and processes.join(_KILL_S):
            processes.close()
            self._processes = None
        if rendezvous is not None:
            shutil.rmtree(rendezvous, ignore_errors=True)
            self._rendezvous = None


class _Silent(Exception):
    """The gang has said nothing for longer than it may; the message says where."""


def _answer(
    processes: RankProcesses,
    run_id: str,
    on_news: Callable[[News], None],
    patience: Patience | None,
) -> Done | Failed:
    last: Progress | None = None
    allowed_s = patience.allow(last) if patience else math.inf
    while True:
        message, waited_s = _listen(processes.inbox, allowed_s)
        if message is None:
            after = (
                f"{last.stage} {last.step} of {last.steps}" if last else "the run was given to it"
            )
            raise _Silent(f"no word for {allowed_s:.0f} s after {after}")
        if patience:
            patience.waited(waited_s)
        if isinstance(message, Death):
            processes.inbox.put(message)  # for whoever asks next
            raise GangDied(message.reason)
        if isinstance(message, Ready) or message.run_id != run_id:
            continue  # the rest of a run that was given up
        if isinstance(message, Done | Failed):
            return message
        on_news(message)
        if isinstance(message, Progress):
            last = message
            allowed_s = patience.allow(last) if patience else math.inf


def _listen(
    inbox: queue.SimpleQueue[FromRank | Death], allowed_s: float
) -> tuple[FromRank | Death | None, float | None]:
    """The next message; None: silence for so long, all of which this process has itself seen.

    With it, the seconds until then; None: who knows, this process was stopped meanwhile.
    """
    message: FromRank | Death | None = None
    waited_s, stopped = 0.0, False
    while message is None and waited_s < allowed_s:
        began = time.monotonic()
        with suppress(queue.Empty):
            message = inbox.get(timeout=min(_LOOK_S, allowed_s - waited_s))
        took_s = time.monotonic() - began
        if took_s < 2 * _LOOK_S:
            waited_s += took_s
        else:
            waited_s, stopped = 0.0, True
    return message, None if stopped else waited_s
