"""One named step of the pipeline."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

from pipeline.stages.control import Steps
from pipeline.stages.state import State


class Stage(ABC):
    """Reads `inputs` of the state, writes `outputs`, knows nothing of the stages around it."""

    name: ClassVar[str]
    inputs: ClassVar[tuple[str, ...]]
    outputs: ClassVar[tuple[str, ...]]

    @abstractmethod
    def run(self, state: State, steps: Steps) -> None:
        """Do the step. Every rank calls it with the same request."""


def check_order(stages: Sequence[Stage]) -> None:
    """Every stage must find its inputs made by the request or by a stage before it.

    Raises:
        ValueError: naming the stage and the inputs that nobody makes.
    """
    made = {"request"}
    for stage in stages:
        if missing := sorted(set(stage.inputs) - made):
            raise ValueError(
                f"{stage.name} needs {', '.join(missing)}, which no stage before makes"
            )
        made.update(stage.outputs)
