"""Where the gangs of these options run on this machine, found out without loading torch here."""

from __future__ import annotations

import os
from dataclasses import dataclass

from ops.options import Refused
from pipeline.gang.gang import GangError
from pipeline.gang.placement import gang_envs, plan, probe, undecided
from pipeline.layout import Layout
from pipeline.options import EngineOptions


@dataclass(frozen=True)
class Placement:
    """A layout on the devices that are there."""

    device: str
    layout: Layout
    gangs: list[dict[str, str]]
    """What each gang adds to the environment: its own devices."""
    one_gang: EngineOptions
    """The options of each single gang, with nothing left to find out."""
    undecided: bool = False
    """Only the model, not read yet, says how sp is split into ring and ulysses."""

    def __str__(self) -> str:
        if not self.undecided:
            return f"{self.layout} on {self.device}"
        of, sp = self.layout, self.layout.sp
        return (
            f"{of.num_gpus} = dp {of.dp} x cfg {of.cfg} x sp {sp} x tp {of.tp} on {self.device} "
            "(ring and ulysses: decided when the model is read)"
        )


def place(options: EngineOptions) -> Placement:
    """Find the devices and spread the gangs over them.

    Raises:
        Refused: the device is not there, there are too few, or the degrees do not fit.
    """
    try:
        found = probe(options)
        layout = plan(options, found)
        gangs = gang_envs(layout, found, os.environ)
    except (GangError, ValueError) as error:
        raise Refused(str(error)) from None
    device = found["device"]
    one_gang = options.model_copy(
        update={"num_gpus": layout.gang_size, "dp_size": None, "device": device}
    )
    return Placement(
        device=device,
        layout=layout,
        gangs=gangs,
        one_gang=one_gang,
        undecided=undecided(options, layout),
    )
