"""Components that live in CPU memory and come to the device while they are in use.

The same order as accelerate's `cpu_offload_with_hook`: the next one that is called sends the last
one home. Weights never change, so that going home is dropping the copy on the device. A VAE is
called by its parts as well as whole; diffusers' and accelerate's hooks see only whole calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor


class Guests:
    """Components that share one device, one at a time."""

    def __init__(self, device: torch.device, *, pinned: bool) -> None:
        """`pinned` weights are locked in CPU memory: the device fetches them faster."""
        self._device = device
        self._pinned = pinned
        self._homes: dict[nn.Module, dict[torch.Tensor, torch.Tensor]] = {}
        self._present: nn.Module | None = None

    def add(self, component: nn.Module) -> None:
        """Send `component` home until it, or a part of it, is called.

        Raises:
            ValueError: its weights are sharded over ranks.
        """
        tensors = [*component.parameters(), *component.buffers()]
        if any(isinstance(tensor, DTensor) for tensor in tensors):
            raise ValueError(
                f"{type(component).__name__} cannot be sharded over ranks and offloaded at once"
            )
        component.to("cpu")
        self._homes[component] = {
            tensor: tensor.data.pin_memory() if self._pinned else tensor.data for tensor in tensors
        }
        self._go_home(component)
        for part in (component, *component.children()):
            part.register_forward_pre_hook(self._calls(component), with_kwargs=True)

    def make_room_for(self, component: nn.Module) -> None:
        """Send every guest home when `component`, which is none, is called."""
        component.register_forward_pre_hook(self._calls(None), with_kwargs=True)

    def _calls(self, component: nn.Module | None) -> Callable[..., Any]:
        def hook(_module: nn.Module, args: Any, kwargs: Any) -> Any:
            self._call(component)
            # Its callers look where its weights are and bring its inputs there: to its home. A list
            # stays as it is, the callee may write to it (Wan's VAE does).
            return (
                tuple(self._here(value) for value in args),
                {name: self._here(value) for name, value in kwargs.items()},
            )

        return hook

    def _here(self, value: Any) -> Any:
        return value.to(self._device) if isinstance(value, torch.Tensor) else value

    def _call(self, component: nn.Module | None) -> None:
        if component is self._present:
            return
        if self._present is not None:
            self._go_home(self._present)
        if component is not None:
            for tensor, home in self._homes[component].items():
                tensor.data = home.to(self._device, non_blocking=self._pinned, copy=True)
        self._present = component

    def _go_home(self, component: nn.Module) -> None:
        for tensor, home in self._homes[component].items():
            tensor.data = home
