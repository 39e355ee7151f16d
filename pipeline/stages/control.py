"""How a running generation tells where it stands and is stopped."""

from __future__ import annotations

from typing import Protocol

from pipeline.parallel.ranks import Ranks


class Cancelled(Exception):
    """The request was stopped between two steps, on every rank alike."""


class NotFinite(Exception):
    """The model computed NaN or infinity; the ranks are still in step."""


class Control(Protocol):
    """What the rank's main gives the engine. Only rank 0's is ever asked."""

    def progress(self, stage: str, step: int, steps: int) -> None:
        """Hear that step `step` of `steps` of a stage is done."""

    def stop_requested(self) -> bool:
        """Whether somebody wants this generation to end."""


class Steps:
    """The boundary between two steps, where ranks agree and rank 0 reports."""

    def __init__(self, control: Control, ranks: Ranks) -> None:
        self._control = control
        self._ranks = ranks

    def done(self, stage: str, step: int, steps: int) -> None:
        """Report step `step` of `steps` of `stage`."""
        if self._ranks.rank == 0:
            self._control.progress(stage, step, steps)

    def agree_to_go_on(self) -> None:
        """Rank 0 decides for all; every rank must call it.

        Raises:
            Cancelled: on every rank, when rank 0 was asked to stop.
        """
        if self._ranks.agree(self._ranks.rank == 0 and self._control.stop_requested()):
            raise Cancelled

    def first(self, text: str) -> str:
        """The first text that is not empty, by rank, on every rank; every rank must call it."""
        return next(filter(None, self._ranks.gather_text(text)), "")

    def go_on_alone(self) -> None:
        """The same on rank 0, while the others wait for what becomes of it.

        Raises:
            Cancelled: rank 0 was asked to stop.
        """
        if self._control.stop_requested():
            raise Cancelled
