"""The switches for memory and speed that hold for every family: one call at the end of its load."""

from __future__ import annotations

from typing import Any

from pipeline import ipex
from pipeline.compile import compile_blocks
from pipeline.memory.place import place
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks


def apply(pipe: Any, options: EngineOptions, ranks: Ranks) -> tuple[str, ...]:
    """Place and compile a diffusers pipeline whose weights are shared out already.

    Returns:
        What was asked for and has nothing to do here, in words.

    Raises:
        ValueError: a switch that the device, or how the weights are shared, cannot serve.
    """
    ipex.optimize(pipe, options)
    notes = place(pipe, options, ranks)
    compile_blocks(pipe, options, ranks)
    return notes
