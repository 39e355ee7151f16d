"""Sequence parallelism from outside: hooks share out a model's tokens and put them together again.

Where to split and gather is data, in the form of diffusers' `_cp_plan`. The split is balanced: any
number of tokens goes over any number of ranks, lengths differ by one at most.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from diffusers.models._modeling_parallel import ContextParallelInput, ContextParallelOutput
from torch import nn
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh

from pipeline.parallel.collectives import all_gather_uneven


def balanced(length: int, parts: int) -> list[int]:
    """Sizes of `parts` pieces of `length` that differ by one at most, the longer ones first."""
    size, rest = divmod(length, parts)
    return [size + (part < rest) for part in range(parts)]


class SequenceParallel:
    """The token sequence of one model as the ranks of a group share it.

    USP (arXiv:2405.07719): the ranks of `group` are numbered along `ulysses` first, then along
    `ring`. `sizes` are the lengths of all ranks' pieces in the forward that is under way.
    """

    def __init__(self, group: ProcessGroup, ulysses: ProcessGroup, ring: ProcessGroup) -> None:
        self.group = group
        self.ulysses = ulysses
        self.ring = ring
        self.sizes: list[int] = []

    @classmethod
    def of(cls, mesh: DeviceMesh) -> SequenceParallel:
        """Over the groups `sp`, `ulysses` and `ring` of a gang's mesh."""
        return cls(*(mesh.get_group(name) for name in ("sp", "ulysses", "ring")))

    @property
    def pieces(self) -> list[int]:
        """Lengths of the pieces of this rank's Ulysses group: together one block of the ring."""
        start = self.ring.rank() * self.ulysses.size()
        return self.sizes[start : start + self.ulysses.size()]

    @property
    def blocks(self) -> list[int]:
        """Lengths of the ring's blocks."""
        step = self.ulysses.size()
        return [sum(self.sizes[start : start + step]) for start in range(0, len(self.sizes), step)]

    def split(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        """This rank's piece of a tensor that holds the whole sequence along `dim`."""
        self.sizes = balanced(tensor.shape[dim], self.group.size())
        return torch.split(tensor, self.sizes, dim)[self.group.rank()]

    def gather(self, tensor: torch.Tensor, dim: int) -> torch.Tensor:
        """The whole sequence along `dim`, from every rank's piece."""
        return all_gather_uneven(tensor, self.sizes, dim, self.group)

    def apply(self, model: nn.Module, plan: Mapping[str, Any]) -> None:
        """Hang the hooks of `plan` (module name -> what to split of its inputs or outputs).

        Raises:
            TypeError: an entry that is not understood.
        """
        for name, places in plan.items():
            module = model.get_submodule(name)
            if isinstance(places, ContextParallelOutput):
                module.register_forward_hook(self._gather_output(places))
                continue
            for key, place in places.items():
                if not isinstance(place, ContextParallelInput):
                    raise TypeError(f"cannot read {place!r} for {name}.{key} of the plan")
                if place.split_output:
                    module.register_forward_hook(self._split_output(key, place))
                else:
                    hook = self._split_input(inspect.signature(module.forward), key, place)
                    module.register_forward_pre_hook(hook, with_kwargs=True)

    def _split_place(self, tensor: torch.Tensor, place: ContextParallelInput) -> torch.Tensor:
        # A plan may name a tensor that has tokens in some forms only, such as Wan's timestep.
        if tensor.dim() != place.expected_dims:
            return tensor
        return self.split(tensor, place.split_dim)

    def _split_input(
        self, signature: inspect.Signature, name: str, place: ContextParallelInput
    ) -> Callable[..., Any]:
        def hook(_module: nn.Module, args: Any, kwargs: Any) -> Any:
            bound = signature.bind(*args, **kwargs)
            if name in bound.arguments:
                bound.arguments[name] = self._split_place(bound.arguments[name], place)
            return bound.args, bound.kwargs

        return hook

    def _split_output(self, index: int, place: ContextParallelInput) -> Callable[..., Any]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            parts = list(output)
            parts[index] = self._split_place(parts[index], place)
            return tuple(parts)

        return hook

    def _gather_output(self, place: ContextParallelOutput) -> Callable[..., Any]:
        def hook(_module: nn.Module, _args: Any, output: Any) -> Any:
            return self.gather(output, place.gather_dim)

        return hook
