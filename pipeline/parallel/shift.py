"""Passing a block to the next rank of a ring while something else is computed.

Two forms: point to point, and a permutation by the functional all-to-all, which only the neighbours
fill. The first is tried at start, because send and receive hang on some XPU builds unless oneCCL is
told otherwise (pytorch#156782); the second takes its place where the first fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Protocol

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup

from pipeline.parallel.collectives import arrived, start_all_to_all
from pipeline.parallel.ledger import note
from pipeline.parallel.ranks import Ranks

log = logging.getLogger(__name__)

_PATIENCE = timedelta(seconds=20)

Arrival = Callable[[], torch.Tensor]
"""Waits, once, for the block from the rank before, and for its own to have left; keeps neither."""


class Shift(Protocol):
    """Begins to send `block` to the next rank; `shape` is that of the rank before's block."""

    def __call__(self, block: torch.Tensor, shape: tuple[int, ...], group: ProcessGroup) -> Arrival:
        """Begin."""


def point_to_point(block: torch.Tensor, shape: tuple[int, ...], group: ProcessGroup) -> Arrival:
    """Shift by send and receive."""
    block, received = block.contiguous(), block.new_empty(shape)
    after, before = _neighbours(group)
    works = dist.batch_isend_irecv(
        [
            dist.P2POp(dist.isend, block, group=group, group_peer=after),
            dist.P2POp(dist.irecv, received, group=group, group_peer=before),
        ]
    )
    note(
        "shift",
        group,
        block,
        shape=(),
        sent=_of_each(group, after, block.numel()),
        received=_of_each(group, before, received.numel()),
    )

    # What is being sent has to live until it has left, and not a block's time longer.
    under_way = [block, received]

    def arrive() -> torch.Tensor:
        for work in works:
            work.wait()
        works.clear()
        arrived_block = under_way.pop()
        under_way.clear()
        return arrived_block

    return arrive


def permutation(block: torch.Tensor, shape: tuple[int, ...], group: ProcessGroup) -> Arrival:
    """Shift by an all-to-all whose other pieces are empty."""
    after, before = _neighbours(group)
    sent = _of_each(group, after, block.numel())
    received = _of_each(group, before, torch.Size(shape).numel())
    under_way = [start_all_to_all(block.flatten(), received, sent, group)]
    return lambda: arrived(under_way.pop()).view(shape)


def choose(ranks: Ranks) -> Shift:
    """The form that works here, tried on a group of its own; the same on every rank.

    Raises:
        ValueError: neither form brings the right values.
    """
    for name, shift in (("point to point", point_to_point), ("permutation", permutation)):
        failures = [text for text in ranks.gather_text(_try(shift, ranks)) if text]
        if not failures:
            log.info("ring shift: %s over %s", name, ranks.backend)
            return shift
        log.warning("ring shift by %s does not work: %s", name, failures[0])
    raise ValueError(
        f"the ring is refused: neither send and receive nor all-to-all pass a block over "
        f"{ranks.backend}; use ulysses"
    )


def _try(shift: Shift, ranks: Ranks) -> str:
    """Pass this rank's number on, on a group that may break; returns what went wrong, or nothing."""
    group = dist.new_group(backend=ranks.backend, timeout=_PATIENCE)
    try:
        block = torch.full((1024, ranks.rank + 1), float(ranks.rank), device=ranks.device)
        _, before = _neighbours(group)
        received = shift(block, (1024, before + 1), group)()
        if not bool((received == before).all()):
            return f"rank {ranks.rank} received wrong values"
    except RuntimeError as error:
        return f"rank {ranks.rank}: {error}"
    finally:
        dist.destroy_process_group(group)
    return ""


def _neighbours(group: ProcessGroup) -> tuple[int, int]:
    """The next rank and the rank before, in the group's own numbers."""
    return (group.rank() + 1) % group.size(), (group.rank() - 1) % group.size()


def _of_each(group: ProcessGroup, neighbour: int, numbers: int) -> list[int]:
    """How many numbers go to, or come from, each rank of the group: one neighbour's alone."""
    return [numbers if rank == neighbour else 0 for rank in range(group.size())]
