"""How a running generation tells where it stands and is stopped."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from pipeline.parallel.ranks import Ranks

if TYPE_CHECKING:
    from pipeline.stages.live import Live, Picture
    from pipeline.stages.snapshot import Snapshot


_STOP, _KEPT, _SPOILT = 1, 2, 4


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

    def boundary(self, step: int, take: Callable[[], Snapshot]) -> bool:
        """Hear that `step` steps are done and the next is not begun; `take` snaps where it stands.

        True: a checkpoint is made here.
        """

    def resumed(self, step: int, steps: int, refused: str) -> None:
        """Hear that it goes on behind `step`; `refused` says why not where it was to."""


class Silent:
    """A control that nobody listens to and nobody asks."""

    def progress(self, stage: str, step: int, steps: int) -> None:
        """Drop it."""

    def stop_requested(self) -> bool:
        """Never."""
        return False

    def boundary(self, step: int, take: Callable[[], Snapshot]) -> bool:  # noqa: ARG002 - Control's
        """Keep nothing."""
        return False

    def resumed(self, step: int, steps: int, refused: str) -> None:
        """Drop it."""


class Steps:
    """The boundary between two steps, where ranks agree and rank 0 reports."""

    def __init__(self, control: Control, ranks: Ranks, live: Live | None = None) -> None:
        """`live`: where rank 0 shows previews, if anybody wants them."""
        self._control = control
        self._ranks = ranks
        self._live = live
        self._step = 0
        self._take: Callable[[], Snapshot] | None = None

    def done(self, stage: str, step: int, steps: int) -> None:
        """Report step `step` of `steps` of `stage`."""
        if self._ranks.rank == 0:
            self._control.progress(stage, step, steps)

    def show(self, picture: Picture) -> None:
        """Let those who watch see `picture()`, if it is time; the next `done` says that it is there."""
        if self._live is not None and self._ranks.rank == 0:
            self._live.show(picture)

    def resumed(self, step: int, steps: int, refused: str = "") -> None:
        """Report where the generation goes on."""
        if self._ranks.rank == 0:
            self._control.resumed(step, steps, refused)

    def agree_to_go_on(
        self, step: int, take: Callable[[], Snapshot], *, finite: bool = True
    ) -> bool:
        """Rank 0 decides for all, when `step` denoising steps are done; every rank must call it.

        Args:
            step: how many are done.
            take: snaps where the generation stands, also later while it is decoded.
            finite: False: this rank has seen NaN or infinity. Any rank's word is enough.

        Returns:
            Whether a checkpoint is made here: who goes on from it knows nothing of earlier steps.

        Raises:
            Cancelled: on every rank, when rank 0 was asked to stop.
            NotFinite: on every rank.
        """
        self._step, self._take = step, take
        decision = self._decision() if self._ranks.rank == 0 else 0
        said = self._ranks.gather_numbers(decision | (0 if finite else _SPOILT))
        if said[0] & _STOP:
            raise Cancelled
        if any(each & _SPOILT for each in said):
            raise NotFinite(
                f"the latent is not finite after step {step}: the weights may be damaged, or need "
                "another dtype (float16 overflows where bfloat16 and float32 do not)"
            )
        return bool(said[0] & _KEPT)

    def first(self, text: str) -> str:
        """The first text that is not empty, by rank, on every rank; every rank must call it."""
        return next(filter(None, self._ranks.gather_text(text)), "")

    def go_on_alone(self) -> None:
        """The same on rank 0, while the others wait for what becomes of it.

        Raises:
            Cancelled: rank 0 was asked to stop.
        """
        if self._decision() & _STOP:
            raise Cancelled

    def _decision(self) -> int:
        # Asked first: who is asked for a checkpoint and to stop must not stop without it.
        stop = _STOP * self._control.stop_requested()
        if self._take is not None and self._control.boundary(self._step, self._take):
            return stop | _KEPT
        return stop
