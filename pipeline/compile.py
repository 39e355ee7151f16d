"""torch.compile for a transformer's repeated blocks: compiled once, run for every block."""

from __future__ import annotations

import os
import shutil
from typing import Any

from torch.utils._triton import has_triton

from pipeline.options import EngineOptions
from pipeline.parallel.ledger import lose_sight
from pipeline.parallel.ranks import Ranks


def compile_blocks(pipe: Any, options: EngineOptions, ranks: Ranks) -> None:
    """Compile the transformers of a diffusers pipeline where the options ask for it.

    Graphs may break: exchanges between ranks and offloading hooks cannot be compiled. The first
    request of a shape pays for the compilation.

    Raises:
        ValueError: there is no compiler for this device.
    """
    if not options.enable_torch_compile:
        return
    if missing := _missing_compiler(in_host_memory=ranks.platform.in_host_memory):
        raise ValueError(f"enable_torch_compile needs {missing}: install it, or leave it out")
    for name, component in pipe.components.items():
        if name.startswith("transformer") and component is not None:
            component.register_forward_pre_hook(lose_sight)
            component.compile_repeated_blocks(fullgraph=False)


def _missing_compiler(*, in_host_memory: bool) -> str:
    """What torch's inductor would generate code for and not find; empty if it is there."""
    if not in_host_memory:
        return "" if has_triton() else "Triton for this device"
    compilers = [os.environ.get("CXX", "g++"), "clang++"]
    return "" if any(map(shutil.which, compilers)) else "a C++ compiler (g++)"
