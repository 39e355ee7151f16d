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

Attend = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
"""Query, key and value to output, all [B, tokens, heads, D]."""


def ulysses(attend: Attend, sequence: SequenceParallel) -> Attend:
    """Spread `attend` over the ranks that share `sequence`."""

    def spread(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        if sequence.ulysses.size() == 1:
            return attend(query, key, value)
        query, key, value = _tokens_to_heads(torch.stack((query, key, value)), sequence)
        return _heads_to_tokens(attend(query, key, value), sequence)

    return spread


def _tokens_to_heads(qkv: torch.Tensor, sequence: SequenceParallel) -> torch.Tensor:
    """Give each rank its heads of these tokens, get its own heads of all.

    [3, B, l, H, D] -> [3, B, S, h, D].

    One message for query, key and value; tokens lead, so that pieces of any length just follow one
    another and the attention sees no padding.
    """
    ranks, own = sequence.ulysses.size(), qkv.shape[2]
    by_rank = torch.unflatten(qkv, 3, (ranks, -1)).permute(3, 2, 0, 1, 4, 5).flatten(0, 1)
    all_tokens = all_to_all(by_rank, sequence.pieces, [own] * ranks, sequence.ulysses)
    return all_tokens.permute(1, 2, 0, 3, 4)


def _heads_to_tokens(out: torch.Tensor, sequence: SequenceParallel) -> torch.Tensor:
    """Give each rank its tokens of these heads, get all heads of its own.

    [B, S, h, D] -> [B, l, H, D].
    """
    ranks, pieces = sequence.ulysses.size(), sequence.pieces
    own = pieces[sequence.ulysses.rank()]
    by_token = out.transpose(0, 1)
    all_heads = all_to_all(by_token, [own] * ranks, pieces, sequence.ulysses)
    return torch.unflatten(all_heads, 0, (ranks, own)).permute(2, 1, 0, 3, 4).flatten(2, 3)
