"""Classifier-free guidance (arXiv:2207.12598), its two branches on one rank or on two."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import torch
from torch.distributed import ProcessGroup

from pipeline.parallel.collectives import all_gather

Branch = Literal["cond", "uncond"]

_BRANCHES: tuple[Branch, Branch] = ("cond", "uncond")


class Guidance:
    """Which branches this rank computes, and how they become one prediction.

    With a group of two each rank computes one and they meet in one exchange a step.
    """

    def __init__(self, group: ProcessGroup) -> None:
        self._group = group

    def branches(self, scale: float) -> tuple[Branch, ...]:
        """This rank's branches; a scale of 1 or less means no guidance, as in diffusers."""
        if scale <= 1:
            return ("cond",)
        return _BRANCHES if self._group.size() == 1 else (_BRANCHES[self._group.rank()],)

    def combine(self, predictions: Mapping[Branch, torch.Tensor], scale: float) -> torch.Tensor:
        """The guided prediction from those of `branches(scale)`, the same on every rank."""
        if scale <= 1:
            return predictions["cond"]
        if self._group.size() == 1:
            cond, uncond = predictions["cond"], predictions["uncond"]
        else:
            cond, uncond = all_gather(predictions[_BRANCHES[self._group.rank()]], self._group)
        return uncond + scale * (cond - uncond)
