"""When an attempt was in which stage, by what it told of its progress: for metrics and traces."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

STEPPED = "denoising"
"""The stage whose steps are worth a figure of their own."""
STORING = "storing"


@dataclass
class Phase:
    """One stage of one output."""

    stage: str
    item: int
    """The output, from 0."""
    began_at: float
    """Unix seconds."""
    ended_at: float
    steps: int = 0

    @property
    def seconds(self) -> float:
        """How long it took; a clock set back takes nothing."""
        return max(0.0, self.ended_at - self.began_at)


class Timeline:
    """One attempt's phases."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._last_at = clock()
        self._phases: list[Phase] = []

    @property
    def phases(self) -> tuple[Phase, ...]:
        """In order; the last may go on."""
        return tuple(self._phases)

    def note(self, stage: str, item: int, step: int) -> None:
        """Step `step` of this stage of this output is done; 0: the stage begins.

        A stage that did not say so has begun where the one before it ended.
        """
        now = self._clock()
        phase = self._phases[-1] if self._phases else None
        if phase is None or (phase.stage, phase.item) != (stage, item):
            phase = Phase(stage, item, self._last_at if step else now, now)
            self._phases.append(phase)
        phase.ended_at = self._last_at = now
        phase.steps += step > 0

    def seconds(self) -> dict[str, float]:
        """What /metrics counts: `step`, the mean step of the denoising, and `store`."""
        stepped = [phase for phase in self._phases if phase.stage == STEPPED]
        stored = [phase.seconds for phase in self._phases if phase.stage == STORING]
        found = {}
        if steps := sum(phase.steps for phase in stepped):
            found["step"] = sum(phase.seconds for phase in stepped) / steps
        if stored:
            found["store"] = sum(stored)
        return found
