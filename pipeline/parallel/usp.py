"""Unified sequence parallelism: Ulysses within the blocks of a ring (USP, arXiv:2405.07719)."""

from __future__ import annotations

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn

from pipeline.parallel import lse, shift
from pipeline.parallel.ranks import Ranks
from pipeline.parallel.ring import ring
from pipeline.parallel.sequence import SequenceParallel
from pipeline.parallel.ulysses import Attend, ulysses


def spread(
    sequence: SequenceParallel, ranks: Ranks, *, head_width: int, dtype: torch.dtype
) -> Attend:
    """Attention of each rank's queries to all tokens of `sequence`.

    Every rank must call it: a ring tries here what it needs.

    Raises:
        ValueError: the ring is refused, because the device has no operator for it.
    """
    attend: Attend = attend_alone
    if sequence.ring.size() > 1:
        attend = ring(lse.choose(ranks, head_width, dtype), sequence, shift.choose(ranks))
    return ulysses(attend, sequence)


def attend_alone(qkv: list[torch.Tensor]) -> torch.Tensor:
    """Attention on this rank alone, by diffusers' operator in use."""
    query, key, value = qkv
    output: torch.Tensor = dispatch_attention_fn(query, key, value)
    return output
