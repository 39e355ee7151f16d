"""Tensor parallelism: each rank holds a part of the weights' rows or columns.

Megatron-LM, arXiv:1909.08053: a linear split by its outputs needs no exchange, the one after it,
split by its inputs, one sum over the ranks. The plan has the form of diffusers' `_tp_plan`, read by
diffusers' own code; the weights stay plain tensors, not DTensors as there, whose dispatch costs time
at each operation and whose collectives would not pass through our door.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from diffusers.hooks.tensor_parallel import _local_shard, resolve_tp_shard_specs
from torch import nn
from torch.distributed.device_mesh import DeviceMesh
from torch.nn import functional
from typing_extensions import override

from pipeline.parallel.collectives import all_reduce


class RowLinear(nn.Module):
    """A linear that has a part of its inputs here; the ranks' results are added up."""

    def __init__(self, linear: nn.Linear, mesh: DeviceMesh) -> None:
        """Take over `linear`, whose weight is this rank's part already and whose bias is whole."""
        super().__init__()
        self.weight = linear.weight
        self.bias = linear.bias
        self._group = mesh.get_group()

    @override
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """[..., this rank's inputs] to [..., outputs], whole on every rank."""
        outputs = all_reduce(functional.linear(inputs, self.weight), self._group)
        return outputs if self.bias is None else outputs + self.bias


class WidthNorm(nn.Module):
    """Root mean square norm (arXiv:1910.07467) over a width that is shared by the ranks."""

    def __init__(self, norm: nn.RMSNorm, mesh: DeviceMesh) -> None:
        """Keep this rank's part of `norm`'s weights."""
        super().__init__()
        (width,) = norm.normalized_shape
        self.weight = nn.Parameter(
            _local_shard(norm.weight.data, 0, [width], mesh), requires_grad=False
        )
        self._eps = torch.finfo(torch.float32).eps if norm.eps is None else norm.eps
        self._width = width
        self._group = mesh.get_group()

    @override
    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """[..., this rank's part of the width] to the same."""
        wide = hidden.float()
        squares = all_reduce(wide.square().sum(-1, keepdim=True), self._group)
        return (wide * torch.rsqrt(squares / self._width + self._eps) * self.weight).type_as(hidden)


def share_linears(model: nn.Module, plan: Mapping[str, str], mesh: DeviceMesh) -> None:
    """Keep only this rank's part of every linear that `plan` names.

    Raises:
        ValueError: a width that does not divide by the number of ranks.
    """
    for name, spec in resolve_tp_shard_specs(model, dict(plan), mesh.size()).items():
        if spec.dim is None or spec.block_sizes is None:
            continue
        path, _, kind = name.rpartition(".")
        linear: Any = model.get_submodule(path)
        part = _local_shard(getattr(linear, kind).data, spec.dim, spec.block_sizes, mesh)
        setattr(linear, kind, nn.Parameter(part.clone(), requires_grad=False))
        if spec.dim == 1:
            parent, _, own = path.rpartition(".")
            setattr(model.get_submodule(parent), own, RowLinear(linear, mesh))
