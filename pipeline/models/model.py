"""What a family gives the engine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from pipeline.layout import Layout
from pipeline.limits import ModelCard
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks
from pipeline.stages.stage import Stage


@dataclass(frozen=True)
class Model:
    """A loaded model: its card and its stages, in order."""

    card: ModelCard
    dtype: str
    """The transformer's."""
    stages: tuple[Stage, ...]
    fallbacks: tuple[str, ...] = ()
    """What runs otherwise than asked for, in words."""


class Load(Protocol):
    """A family's `load`."""

    def __call__(self, options: EngineOptions, layout: Layout, ranks: Ranks) -> Model:
        """Load this rank's share.

        Raises:
            ValueError: what the model or the layout does not allow, in words.
        """
