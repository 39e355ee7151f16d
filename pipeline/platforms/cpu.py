"""The host's processors over gloo: ranks share the cores and the memory."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from typing_extensions import override

from pipeline.platforms.platform import Platform

_STATUS = Path("/proc/self/status")
_CLEAR_REFS = Path("/proc/self/clear_refs")


class Cpu(Platform):
    """One "device" a core; any number of ranks may share them."""

    kind = "cpu"
    backend = "gloo"
    visible_variable = ""
    default_dtype = torch.float32
    lse_operators = ("_scaled_dot_product_flash_attention_for_cpu",)
    in_host_memory = True
    has_streams = False

    @override
    def count(self) -> int:
        if sys.platform == "linux":
            return len(os.sched_getaffinity(0))
        return os.cpu_count() or 1

    @override
    def enter(self, rank: int, world_size: int) -> torch.device:
        del rank
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(max(1, self.count() // world_size))
        return torch.device("cpu")

    @override
    def name(self, device: torch.device) -> str:
        del device
        return platform.processor() or platform.machine()

    @override
    def memory_bytes(self, device: torch.device) -> int:
        del device
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    @override
    def peak_memory_bytes(self, device: torch.device) -> int:
        """Peak resident set of the process, whose start only Linux can move (proc(5))."""
        del device
        if _STATUS.exists():
            for line in _STATUS.read_text().splitlines():
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if sys.platform == "darwin" else peak * 1024

    @override
    def reset_peak_memory(self, device: torch.device) -> None:
        del device
        if _CLEAR_REFS.exists():
            _CLEAR_REFS.write_text("5")

    @override
    def empty_cache(self) -> None:
        """The C library keeps little, and what is large goes back when it is freed."""

    @override
    def synchronize(self, device: torch.device) -> None:
        """Nothing to wait for: the CPU has done its work when a call returns."""

    @override
    @contextmanager
    def alone(self) -> Iterator[None]:
        threads = torch.get_num_threads()
        if "OMP_NUM_THREADS" not in os.environ:
            torch.set_num_threads(self.count())
        try:
            yield
        finally:
            torch.set_num_threads(threads)
