"""Starts the parts in order, restarts one that dies, stops them in the opposite order.

One thread, one selector: signals, the parts' output and a short tick. The thread is the main one and
as long-lived as the process, since the parts' parent-death signal follows it.
"""

from __future__ import annotations

import os
import selectors
import time
from collections.abc import Callable, Iterable, Sequence
from functools import partial

from jobs.errors import EXIT_REFUSED
from ops.stack.logs import Logs
from ops.stack.part import Child, Part
from ops.stack.signals import Signals

TICK_S = 0.1
PROBE_S = 0.05


class Supervisor:
    """Runs stages of parts; the parts of a stage start together and are waited for."""

    def __init__(self, stages: Sequence[Sequence[Part]], logs: Logs, *, name: str) -> None:
        self._stages = [[Child(part) for part in stage] for stage in stages]
        self._children: list[Child] = []  # those started so far
        self._logs = logs
        self._name = name
        self._selector = selectors.DefaultSelector()
        self._stops = 0
        self._code = 0
        self._up = False

    def run(self, on_ready: Callable[[], None]) -> int:
        """Until a stop signal, or a part refuses to start up at all. Returns the exit code.

        A first stop signal stops in order, a second one kills.
        """
        with Signals() as signals:
            self._selector.register(signals, selectors.EVENT_READ, partial(self._count, signals))
            try:
                if all(self._start(stage) for stage in self._stages):
                    self._up = True
                    on_ready()
                    while not self._stops:
                        self._turn()
                self._stop()
            finally:
                for child in self._children:
                    child.kill()
                while self._pass_on(0):
                    pass
                self._selector.close()
        return self._code

    def say(self, text: str) -> None:
        """A line of our own."""
        self._logs[self._name].say(text)

    def _start(self, stage: list[Child]) -> bool:
        """Start a stage and wait until each part is ready; False: stop instead."""
        for child in stage:
            self._children.append(child)
            self._launch(child)
        for child in stage:
            patience, asked = child.part.ready_s, 0.0
            began = time.monotonic()
            while True:
                self._turn(PROBE_S)
                if self._stops or self._code:
                    return False
                if time.monotonic() - asked > PROBE_S:
                    if child.process is not None and child.part.ready(child.process.pid):
                        break
                    asked = time.monotonic()
                if patience is not None and time.monotonic() - began > patience:
                    self.say(f"{child.part.name} is not ready after {patience:g} s: stopping")
                    self._code = 1
                    return False
        return True

    def _turn(self, wait_s: float = TICK_S) -> None:
        """Pass on output and signals, then look after the dead."""
        self._pass_on(wait_s)
        for child in self._children:
            if child.process is None and not self._stops and time.monotonic() >= child.due:
                self._launch(child)
            ended = child.reap()
            if ended is None:
                continue
            pid, code = ended
            name = child.part.name
            self._pass_on(0)  # its last words before ours
            if code == EXIT_REFUSED and (child.starts == 1 or not self._up):
                self.say(f"{name} cannot run like this (its last line says why): stopping")
                self._code = EXIT_REFUSED
                self._stops = max(self._stops, 1)
            elif not self._stops:
                wait_s = child.due - time.monotonic()
                self.say(f"{name} {_ended(code)}; starts again in {wait_s:.1f} s")
                child.part.died(pid)

    def _launch(self, child: Child) -> None:
        name = child.part.name
        try:
            output = child.start()
        except OSError as error:
            self.say(f"{name} cannot be started now: {error}")
            return
        self._selector.register(output, selectors.EVENT_READ, partial(self._forward, name, output))

    def _pass_on(self, timeout_s: float) -> bool:
        """Wait for output or a signal and deal with it; False when none came."""
        events = self._selector.select(timeout_s)
        for key, _ in events:
            key.data()
        return bool(events)

    def _count(self, signals: Signals) -> None:
        self._stops += signals.stops()

    def _forward(self, name: str, output: int) -> None:
        data = os.read(output, 65536)
        self._logs[name].feed(data)
        if not data:
            self._selector.unregister(output)
            os.close(output)

    def _stop(self) -> None:
        """The stages backwards: SIGTERM, patience, SIGKILL. A second stop signal kills at once.

        What a stage leaves of its time goes to the next ones: a busy machine is slow, not stuck.
        """
        self._stops = max(self._stops, 1)
        deadline = time.monotonic()
        for stage in reversed(self._stages):
            deadline += max((child.part.stop_s for child in stage), default=0.0)
            alive = [child for child in stage if child.process is not None]
            if alive:
                self.say(f"stopping {', '.join(child.part.name for child in alive)}")
            self._finish(alive, deadline)

    def _finish(self, alive: Iterable[Child], deadline: float) -> None:
        for child in alive:
            child.terminate()
        for child in alive:
            while child.process is not None:
                self._turn()
                late = time.monotonic() > deadline
                if child.process is not None and (late or self._stops > 1):
                    self.say(f"killing {child.part.name}")
                    child.kill()


def _ended(code: int) -> str:
    return f"was killed by signal {-code}" if code < 0 else f"exited with code {code}"
