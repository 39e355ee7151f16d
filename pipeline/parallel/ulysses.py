"""Ulysses: attention over the whole sequence, each rank for its share of the heads.

DeepSpeed-Ulysses, arXiv:2309.14509: before attention an all-to-all trades tokens for heads, after
it another trades them back. Shapes: B batch, l this rank's tokens, S all tokens, H all heads,
h = H / ranks, D head width.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from pipeline.parallel.collectives import all_to_all
from pipeline.parallel.sequence import SequenceParallel

Attend = Callable[[list[torch.Tensor]], torch.Tensor]
"""Query, key and value to output, all [B, tokens, heads, D].

They come in a list that is theirs no longer: who attends takes them out, so that nothing but what he
needs of them stays in memory while blocks are exchanged and attended to.
"""


def ulysses(attend: Attend, sequence: SequenceParallel) -> Attend:
    """Spread `attend` over the ranks that share `sequence`."""

    def spread(qkv: list[torch.Tensor]) -> torch.Tensor:
        if sequence.ulysses.size() == 1:
            return attend(qkv)
        return _heads_to_tokens(attend(_tokens_to_heads(qkv, sequence)), sequence)

    return spread


def _tokens_to_heads(qkv: list[torch.Tensor], sequence: SequenceParallel) -> list[torch.Tensor]:
    """Give each rank its heads of these tokens, get its own heads of all.

    Three of [B, l, H, D], taken out of the list -> three of [B, S, h, D].

    One message for query, key and value; tokens lead, so that pieces of any length just follow one
    another and the attention sees no padding. What is sent and what comes are all that is held.
    """
    ranks, own = sequence.ulysses.size(), qkv[0].shape[1]
    by_rank = torch.stack(
        [torch.unflatten(heads, 2, (ranks, -1)).permute(2, 1, 0, 3, 4) for heads in qkv], dim=2
    ).flatten(0, 1)
    qkv.clear()
    all_tokens = all_to_all(by_rank, sequence.pieces, [own] * ranks, sequence.ulysses)
    return list(all_tokens.permute(1, 2, 0, 3, 4))


def _heads_to_tokens(out: torch.Tensor, sequence: SequenceParallel) -> torch.Tensor:
    """Give each rank its tokens of these heads, get all heads of its own.

    [B, S, h, D] -> [B, l, H, D].
    """
    ranks, pieces = sequence.ulysses.size(), sequence.pieces
    own = pieces[sequence.ulysses.rank()]
    by_token = out.transpose(0, 1)
    all_heads = all_to_all(by_token, [own] * ranks, pieces, sequence.ulysses)
    return torch.unflatten(all_heads, 0, (ranks, own)).permute(2, 1, 0, 3, 4).flatten(2, 3)
