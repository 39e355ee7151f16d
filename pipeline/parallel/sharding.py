"""Sharded weights: each rank keeps a part of every block and gathers the rest just before it runs.

torch's `fully_shard` (FSDP2) without its training half; with a shard dimension smaller than the gang
(HSDP) every so many ranks together hold one copy. What is computed is the same to the bit. Blocks
come to the device one by one to be cut up there, so that a model larger than one device loads. The
gathers are torch's own, under the functional form's ops but not through `collectives`.
"""

from __future__ import annotations

from torch import nn
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import fully_shard

from pipeline.parallel.collectives import open_groups
from pipeline.parallel.ledger import lose_sight
from pipeline.parallel.ranks import Ranks


def shard_mesh(ranks: Ranks, shard_dim: int | None) -> DeviceMesh:
    """Ranks that share one copy of the weights, and the copies if there are several.

    Args:
        ranks: the gang.
        shard_dim: ranks to a copy, neighbours in number; None: all.

    Raises:
        ValueError: the gang's size does not divide by it.
    """
    size = shard_dim or ranks.world_size
    copies, rest = divmod(ranks.world_size, size)
    if rest:
        raise ValueError(
            f"hsdp_shard_dim {size} does not divide the gang's {ranks.world_size} ranks"
        )
    shape, names = (
        ((size,), ("shard",)) if copies == 1 else ((copies, size), ("replicate", "shard"))
    )
    mesh = init_device_mesh(ranks.device.type, shape, mesh_dim_names=names)
    open_groups(mesh)
    return mesh


def shard_weights(model: nn.Module, blocks: nn.ModuleList, mesh: DeviceMesh) -> None:
    """Shard a model that lies in CPU memory, `blocks` one by one, then the rest."""
    model.requires_grad_(False)
    model.register_forward_pre_hook(lose_sight)
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    fully_shard(model, mesh=mesh, reshard_after_forward=True)
    # It renames the classes, by whose names diffusers finds what `compile_repeated_blocks` compiles.
    repeated = getattr(model, "_repeated_blocks", None) or ()
    model._repeated_blocks = [f"FSDP{name}" for name in repeated]  # type: ignore[assignment]
