"""Tiles of a frame shared out over the ranks of a gang, and brought together on rank 0.

Each tile is computed whole by one rank, so that the result is the same for any number of them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
import torch.distributed as dist

from pipeline.parallel.collectives import all_to_all
from pipeline.parallel.ranks import Ranks


def owners(areas: Sequence[int], ranks: int) -> list[int]:
    """The rank of each tile: the largest first, to the rank with the least so far."""
    loads, by_tile = [0] * ranks, [0] * len(areas)
    for tile in sorted(range(len(areas)), key=lambda tile: -areas[tile]):
        rank = loads.index(min(loads))
        by_tile[tile] = rank
        loads[rank] += areas[tile]
    return by_tile


def collect(
    own: Mapping[int, torch.Tensor],
    shapes: Sequence[tuple[int, ...]],
    by_tile: Sequence[int],
    ranks: Ranks,
    like: torch.Tensor,
) -> list[torch.Tensor]:
    """Send this rank's tiles to rank 0. Every rank must call it.

    Args:
        own: tile number -> tensor, of this rank's tiles; there may be none.
        shapes: of all tiles.
        by_tile: the rank of each.
        ranks: the gang.
        like: a tensor of the tiles' device and dtype.

    Returns:
        All tiles in order on rank 0, nothing on the others.
    """
    if ranks.world_size == 1:
        return [own[tile] for tile in range(len(shapes))]
    sizes = [0] * ranks.world_size
    for tile, shape in enumerate(shapes):
        sizes[by_tile[tile]] += math.prod(shape)
    received = sizes if ranks.rank == 0 else [0] * len(sizes)
    sent = [sizes[ranks.rank], *[0] * (len(sizes) - 1)]
    flat = torch.cat([like.new_empty(0), *(own[tile].flatten() for tile in sorted(own))])
    arrived = all_to_all(flat, received, sent, dist.distributed_c10d._get_default_group())
    if ranks.rank != 0:
        return []
    order = sorted(range(len(shapes)), key=lambda tile: (by_tile[tile], tile))
    pieces = torch.split(arrived, [math.prod(shapes[tile]) for tile in order])
    tiles = {tile: piece.view(shapes[tile]) for tile, piece in zip(order, pieces, strict=True)}
    return [tiles[tile] for tile in range(len(shapes))]
