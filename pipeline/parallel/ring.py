"""Ring attention: each rank keeps its queries and sees all keys and values pass by.

arXiv:2310.01889: a rank's block of keys and values goes to the next rank while attention over the
current block is computed, so that a rank never holds more than two blocks of N beside its queries and
the running output. What the blocks give is merged by their log-sum-exp, as in FlashAttention
(arXiv:2205.14135). Shapes: B batch, l this rank's tokens, H heads, D head width.
"""

from __future__ import annotations

import torch
from torch.nn import functional

from pipeline.parallel.lse import AttendLse
from pipeline.parallel.sequence import SequenceParallel
from pipeline.parallel.shift import Shift
from pipeline.parallel.ulysses import Attend


def ring(attend: AttendLse, sequence: SequenceParallel, shift: Shift) -> Attend:
    """Attention over all blocks of the ring that `sequence` names."""
    group = sequence.ring

    def spread(qkv: list[torch.Tensor]) -> torch.Tensor:
        sizes = sequence.blocks
        queries, block = _own(qkv)
        output = lse = queries.new_empty(0)
        for turn in range(group.size()):
            last = turn == group.size() - 1
            if not last:
                length = sizes[(group.rank() - turn - 1) % group.size()]
                coming = shift(block, (*block.shape[:3], length, block.shape[4]), group)
            part, part_lse = attend(queries, block[0], block[1])
            output, lse = merge(output, lse, part, part_lse) if turn else (part.float(), part_lse)
            del part, part_lse
            if not last:
                block = coming()
        return output.transpose(1, 2).type_as(queries)

    return spread


def _own(qkv: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Queries [B, H, l, D], and the block [2, B, H, l, D] of key and value, which it replaces."""
    query, key, value = (heads.transpose(1, 2) for heads in qkv)
    qkv.clear()
    # Contiguous: cuDNN's operator is wrong on others, and a copy at each turn would be a block more.
    return query.contiguous(), torch.stack((key, value)).contiguous()


def merge(
    output: torch.Tensor, lse: torch.Tensor, part: torch.Tensor, part_lse: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention over two sets of keys from attention over each.

    Args:
        output: [B, H, l, D] float32 of the first set.
        lse: [B, H, l] float32, the log of the sum of its exponentials.
        part: the same of the second set.
        part_lse: the same of the second set.

    Returns:
        Output and log-sum-exp of both sets together.
    """
    weight = torch.sigmoid(part_lse - lse)[..., None]
    return output + weight * (part - output), lse - functional.logsigmoid(lse - part_lse)
