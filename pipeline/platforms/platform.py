"""What a device kind must answer. Nothing outside this folder asks which kind it is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import ClassVar

import torch

from pipeline.options import Device


class Platform(ABC):
    """One kind of device, as the ranks of a gang use it."""

    kind: ClassVar[Device]
    """torch's name for the device type."""
    backend: ClassVar[str]
    """torch.distributed's backend for this kind's tensors."""
    visible_variable: ClassVar[str]
    """The environment variable that hides devices from a process; empty if there is none."""
    default_dtype: ClassVar[torch.dtype]
    lse_operators: ClassVar[tuple[str, ...]]
    """aten's attention operators that may return the log-sum-exp, the best first: for the ring."""
    no_memory_words: ClassVar[tuple[str, ...]] = (
        "DefaultCPUAllocator: can't allocate memory",
        "std::bad_alloc",
    )
    """What a RuntimeError says for want of memory where there is no class for it: torch's host allocator,
    C++ on its way through torch, a device's libraries.
    """
    in_host_memory: ClassVar[bool] = False
    """The device computes in the host's own memory: nothing can be moved out of its way."""
    has_streams: ClassVar[bool] = True
    """Transfers can run beside computation."""

    @abstractmethod
    def count(self) -> int:
        """Devices that this process sees; 0 means that the kind is not there."""

    def rank_environment(self, rank: int, world_size: int) -> dict[str, str]:
        """Variables that a rank needs before torch.distributed starts, to be set where unset."""
        del rank, world_size
        return {}

    def resolve_backend(self, asked: str) -> str:
        """torch.distributed's backend for `asked`; empty asks for the kind's own.

        Raises:
            ValueError: it is not for this kind.
        """
        if asked in ("", self.backend, "gloo"):
            return asked or self.backend
        raise ValueError(
            f"TORCH_DISTRIBUTED_BACKEND={asked} is not for {self.kind}: leave it unset for "
            f"{self.backend}"
        )

    def environment_notes(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        """Variables that are set so that they cannot work, in words."""
        del environ
        return ()

    @abstractmethod
    def enter(self, rank: int, world_size: int) -> torch.device:
        """Make this process the rank's: choose its device and its share of the host.

        Raises:
            ValueError: the rank has no device.
        """

    @abstractmethod
    def name(self, device: torch.device) -> str:
        """The device's name for people."""

    @abstractmethod
    def memory_bytes(self, device: torch.device) -> int:
        """All memory of the device."""

    @abstractmethod
    def peak_memory_bytes(self, device: torch.device) -> int:
        """The most that this process held since `reset_peak_memory`."""

    @abstractmethod
    def reset_peak_memory(self, device: torch.device) -> None:
        """Start measuring the peak anew."""

    @abstractmethod
    def empty_cache(self) -> None:
        """Give memory that is kept for later back to the device."""

    @abstractmethod
    def synchronize(self, device: torch.device) -> None:
        """Wait until the device has done what it was given, so that a clock tells the truth."""

    def attention_problem(self, backend: str, device: torch.device) -> str:
        """Why the kind cannot serve diffusers' attention operator `backend`; empty if it may."""
        del device
        own = ("native", "_native_flash", "_native_efficient", "_native_math", "flex")
        return "" if backend in own else f"it is not made for {self.kind}"

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Within it the gang's other ranks wait: use what they leave idle."""
        yield

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Whether the device, or the host, had no memory left."""
        if isinstance(error, torch.OutOfMemoryError | MemoryError):
            return True
        told = str(error)
        return isinstance(error, RuntimeError) and any(
            words in told for words in self.no_memory_words
        )
