"""What cuda and xpu have in common: torch gives both the same functions."""

from __future__ import annotations

from typing import Any

import torch
from typing_extensions import override

from pipeline.platforms.platform import Platform


class Accelerator(Platform):
    """A kind whose ranks own one device each, numbered within the process's visibility mask."""

    default_dtype = torch.bfloat16

    @property
    def _module(self) -> Any:
        return torch.get_device_module(self.kind)

    @override
    def count(self) -> int:
        return int(self._module.device_count()) if self._module.is_available() else 0

    @override
    def enter(self, rank: int, world_size: int) -> torch.device:
        count = self.count()
        if rank >= count:
            raise ValueError(f"rank {rank} of {world_size} has no {self.kind} device: {count} seen")
        self._module.set_device(rank)
        return torch.device(self.kind, rank)

    @override
    def name(self, device: torch.device) -> str:
        return str(self._module.get_device_name(device))

    @override
    def memory_bytes(self, device: torch.device) -> int:
        return int(self._module.get_device_properties(device).total_memory)

    @override
    def peak_memory_bytes(self, device: torch.device) -> int:
        return int(self._module.max_memory_allocated(device))

    @override
    def reset_peak_memory(self, device: torch.device) -> None:
        self._module.reset_peak_memory_stats(device)

    @override
    def empty_cache(self) -> None:
        self._module.empty_cache()

    @override
    def synchronize(self, device: torch.device) -> None:
        self._module.synchronize(device)
