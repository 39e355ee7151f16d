"""How long a gang may be silent before it counts as hung.

Between two words of a gang lies a step. What a step of this stage and shape took before, times
`FACTOR`, is its budget; one that was never seen, and one that still has to be compiled, has the
ceiling. Only whole runs teach: their longest step is one that no cache has shortened.
"""

from __future__ import annotations

import hashlib

import structlog

from jobs.errors import StoreUnavailable
from jobs.steps import StepTimes
from pipeline.gang.protocol import Progress, Ready, Run
from pipeline.options import EngineOptions

log = structlog.get_logger()

FACTOR = 10.0
"""A step may take this much longer than the longest before: devices throttle, hosts are shared."""
FORGET = 0.9
"""Of a longest step, with each run whose own was shorter: one hiccup shall not last."""
_OTHERWISE = {"served_model_name", "profile"}
"""Options that change no step's time."""


class Watchdog:
    """One worker's; it hears of every gang that is ready, and watches run after run."""

    def __init__(
        self, times: StepTimes, options: EngineOptions, *, least_s: float, unseen_s: float
    ) -> None:
        """`least_s`: no budget is shorter; `unseen_s`: of steps never seen."""
        self._times = times
        self._options = options
        self._least_s = least_s
        self._unseen_s = unseen_s
        self._kind = ""
        self._known_s: dict[str, float] = {}
        self._compiled: set[str] = set()
        """Steps that this gang has taken: nothing is left to compile for them."""

    def on_ready(self, ready: Ready) -> None:
        """A gang is warm; what gangs like it have kept is loaded, if the store answers."""
        self._kind = _kind(self._options, ready)
        self._compiled.clear()
        try:
            self._known_s = self._times.load(self._kind) | self._known_s
        except StoreUnavailable as error:
            log.warning("step times unknown", error=str(error))

    def watch(self, run: Run) -> Watch:
        """Begin to time a run."""
        return Watch(self, run)

    def budget_s(self, step: str) -> float:
        """How long this step may take."""
        known_s = self._known_s.get(step)
        uncompiled = self._options.enable_torch_compile and step not in self._compiled
        if known_s is None or uncompiled:
            return self._unseen_s
        return max(self._least_s, FACTOR * known_s)

    def taken(self, step: str) -> None:
        """This gang has taken such a step."""
        self._compiled.add(step)

    def learn(self, longest_s: dict[str, float]) -> None:
        """A run is whole: keep its steps' times."""
        learned = {
            step: max(seconds, FORGET * self._known_s.get(step, 0.0))
            for step, seconds in longest_s.items()
        }
        self._known_s |= learned
        try:
            self._times.keep(self._kind, learned)
        except StoreUnavailable as error:
            log.warning("step times not kept", error=str(error))


class Watch:
    """One run's steps: the gang's patience with it."""

    def __init__(self, watchdog: Watchdog, run: Run) -> None:
        self._watchdog = watchdog
        self._run = run
        self._step = ""
        self._took_s: float | None = 0.0
        """The present step until now; None: this process was stopped in it, so nobody knows."""
        self._longest_s: dict[str, float] = {}

    def allow(self, last: Progress | None) -> float:
        """Seconds that may pass after the gang's last word; None: after the run was given to it."""
        self._end_step()
        self._step = self._name(last)
        return self._watchdog.budget_s(self._step)

    def waited(self, seconds: float | None) -> None:
        """Part of the step is over; None: nobody knows how long it took."""
        if seconds is None or self._took_s is None:
            self._took_s = None
        else:
            self._took_s += seconds

    def done(self) -> None:
        """The run is whole."""
        self._end_step()
        self._watchdog.learn(self._longest_s)

    def _end_step(self) -> None:
        if self._step:
            self._watchdog.taken(self._step)
            if self._took_s is not None:
                longest_s = max(self._took_s, self._longest_s.get(self._step, 0.0))
                self._longest_s[self._step] = longest_s
        self._took_s = 0.0

    def _name(self, last: Progress | None) -> str:
        request = self._run.items[last.item if last else 0].request
        stage = last.stage if last else "start"
        images = f"+{len(request.images)}" if request.images else ""
        return f"{stage} {request.size}x{request.num_frames}{images}"


def _kind(options: EngineOptions, ready: Ready) -> str:
    """Gangs of one kind take alike steps in alike time."""
    alike = (
        options.model_dump_json(exclude=_OTHERWISE),
        ready.platform,
        ready.devices[0].name if ready.devices else "",
        str(sorted(ready.degrees.items())),
    )
    return hashlib.sha256("\n".join(alike).encode()).hexdigest()[:16]
