"""The one door through which tensors that count pass between ranks (`following` sends its zeros itself).

Functional collectives throughout: on Intel's Arc `dist.all_to_all_single` has corrupted data where
the functional form did not (torch-xpu-ops#3021), and torch.compile traces only these. Their ops are
called directly, since the Python functions around them change names between torch 2.8 and 2.13. A
group of one exchanges nothing. Passing blocks around a ring is in `shift`. What is under way stands
in the rank's ledger.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch.distributed import ProcessGroup
from torch.distributed.device_mesh import DeviceMesh

from pipeline.parallel.ledger import note


def open_groups(mesh: DeviceMesh) -> None:
    """Exchange something over each of a mesh's groups, which every rank must do.

    NCCL takes device memory for a group at its first exchange, outside torch's allocator; a run that
    has filled the device by then would lose the whole gang.
    """
    for group in mesh.get_all_groups():
        each = [1] * group.size()
        ones = torch.ones(group.size(), device=mesh.device_type)
        all_reduce(all_to_all(ones, each, each, group), group)


def all_to_all(
    tensor: torch.Tensor, received: Sequence[int], sent: Sequence[int], group: ProcessGroup
) -> torch.Tensor:
    """Send `sent[r]` rows of dimension 0 to each rank r, in order, and get `received[r]` from it.

    Args:
        tensor: [sum(sent), ...].
        received: rows from each rank; what that rank's `sent` says for this one.
        sent: rows for each rank.
        group: who takes part.

    Returns:
        [sum(received), ...], in rank order.
    """
    if group.size() == 1:
        return tensor
    return arrived(start_all_to_all(tensor, received, sent, group))


def start_all_to_all(
    tensor: torch.Tensor, received: Sequence[int], sent: Sequence[int], group: ProcessGroup
) -> torch.Tensor:
    """The same, under way: nothing may be done with the result but `arrived`."""
    under_way: torch.Tensor = torch.ops._c10d_functional.all_to_all_single(
        tensor.contiguous(), list(received), list(sent), group.group_name
    )
    note("all_to_all", group, tensor, shape=tensor.shape[1:], sent=sent, received=received)
    return under_way


def arrived(under_way: torch.Tensor) -> torch.Tensor:
    """Wait for what was started."""
    complete: torch.Tensor = torch.ops._c10d_functional.wait_tensor(under_way)
    return complete


def all_reduce(tensor: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
    """The sum of every rank's tensor, all of one shape."""
    if group.size() == 1:
        return tensor
    under_way = torch.ops._c10d_functional.all_reduce(tensor.contiguous(), "sum", group.group_name)
    note("all_reduce", group, tensor, shape=tensor.shape)
    return arrived(under_way)


def all_gather(tensor: torch.Tensor, group: ProcessGroup) -> torch.Tensor:
    """Stack every rank's tensor, all of one shape, to [ranks, ...]."""
    if group.size() == 1:
        return tensor[None]
    under_way = torch.ops._c10d_functional.all_gather_into_tensor(
        tensor[None].contiguous(), group.size(), group.group_name
    )
    note("all_gather", group, tensor, shape=tensor.shape)
    return arrived(under_way)


def all_gather_uneven(
    tensor: torch.Tensor, sizes: Sequence[int], dim: int, group: ProcessGroup
) -> torch.Tensor:
    """Join every rank's piece along `dim`, where rank r's is `sizes[r]` long.

    Padded to the longest on the way: gloo cannot gather uneven pieces (pytorch#156627).
    """
    if group.size() == 1:
        return tensor
    moved = tensor.movedim(dim, 0)
    padding = moved.new_zeros((max(sizes) - moved.shape[0], *moved.shape[1:]))
    gathered = all_gather(torch.cat([moved, padding]), group)
    pieces = [piece[:size] for piece, size in zip(gathered, sizes, strict=True)]
    return torch.cat(pieces).movedim(0, dim)
