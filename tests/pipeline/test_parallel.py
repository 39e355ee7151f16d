"""Collectives, the split of the sequence and Ulysses, on real ranks with uneven pieces."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipeline.layout import Layout
from pipeline.parallel.ranks import Ranks
from tests.fixtures.ranks import RankPool

Pools = Callable[[int], RankPool]


@settings(deadline=None)  # the first example imports torch
@given(st.integers(0, 100_000), st.integers(1, 64))
def test_the_split_is_balanced(length: int, parts: int) -> None:
    from pipeline.parallel.sequence import balanced

    sizes = balanced(length, parts)
    assert len(sizes) == parts
    assert sum(sizes) == length
    assert max(sizes) - min(sizes) <= 1


def exchange(ranks: Ranks) -> NDArray[np.int64]:
    """Rank r sends r + s + 1 rows with the value 10 r + s to each rank s."""
    import torch

    from pipeline.parallel.collectives import all_to_all

    group = ranks.mesh(Layout(ulysses=ranks.world_size)).get_group("ulysses")
    sizes = [ranks.rank + other + 1 for other in range(ranks.world_size)]
    rows = [torch.full((size, 2), 10 * ranks.rank + s) for s, size in enumerate(sizes)]
    received: NDArray[np.int64] = all_to_all(torch.cat(rows), sizes, sizes, group).numpy()
    return received


@pytest.mark.parametrize("world_size", [1, 3])
def test_all_to_all_delivers_pieces_of_any_size_in_rank_order(
    rank_pools: Pools, world_size: int
) -> None:
    for rank, received in enumerate(rank_pools(world_size).run(exchange)):
        expected = [10 * s + rank for s in range(world_size) for _ in range(rank + s + 1)]
        np.testing.assert_array_equal(received, np.array([expected, expected]).T)


def split_and_gather(ranks: Ranks, length: int, dtype: str) -> tuple[int, bool]:
    import torch

    from pipeline.parallel.sequence import SequenceParallel

    sequence = SequenceParallel.of(ranks.mesh(Layout(ulysses=ranks.world_size)))
    whole = torch.arange(2 * length * 3).reshape(2, length, 3).to(getattr(torch, dtype))
    piece = sequence.split(whole, 1)
    return piece.shape[1], torch.equal(sequence.gather(piece, 1), whole)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(("length", "pieces"), [(9, [3, 3, 3]), (10, [4, 3, 3]), (3, [1, 1, 1])])
def test_split_pieces_come_together_again(
    rank_pools: Pools, length: int, pieces: list[int], dtype: str
) -> None:
    answers = rank_pools(3).run(split_and_gather, length, dtype)
    assert answers == [(piece, True) for piece in pieces]


def spread_attention(ranks: Ranks, batch: int, tokens: int) -> float:
    """The largest difference between Ulysses and attention on one rank, over this rank's tokens."""
    import torch

    from pipeline.parallel.sequence import SequenceParallel
    from pipeline.parallel.ulysses import ulysses
    from pipeline.parallel.usp import attend_alone

    sequence = SequenceParallel.of(ranks.mesh(Layout(ulysses=ranks.world_size)))
    torch.manual_seed(0)
    whole = [torch.randn(batch, tokens, 6, 8) for _ in range(3)]
    pieces = [sequence.split(tensor, 1) for tensor in whole]
    expected = sequence.split(attend_alone(whole), 1)
    return float((ulysses(attend_alone, sequence)(pieces) - expected).abs().max())


@pytest.mark.parametrize(("batch", "tokens"), [(1, 31), (2, 32), (1, 3)])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ulysses_is_attention_over_the_whole_sequence(
    rank_pools: Pools, world_size: int, batch: int, tokens: int
) -> None:
    """To float32 rounding: each head is computed whole, by one rank."""
    assert max(rank_pools(world_size).run(spread_attention, batch, tokens)) < 1e-6


def spread_transformer(ranks: Ranks, layout: Layout, per_token_time: bool) -> dict[str, Any]:
    """A Wan of 6 heads on 5 x 5 x 3 = 75 tokens against the same model left alone."""
    import torch
    from diffusers import WanTransformer3DModel

    from pipeline.models.wan_parallel import share_tokens
    from pipeline.parallel.sequence import SequenceParallel

    torch.manual_seed(0)
    model = WanTransformer3DModel(
        num_attention_heads=6,
        attention_head_dim=12,
        text_dim=16,
        freq_dim=32,
        ffn_dim=32,
        num_layers=2,
        rope_max_seq_len=16,
    ).eval()
    latent, text = torch.randn(1, 16, 5, 10, 6), torch.randn(1, 4, 16)
    time = torch.linspace(1, 999, 75)[None] if per_token_time else torch.tensor([500.0])
    sequence = SequenceParallel.of(ranks.mesh(layout))
    seen: list[int] = []
    with torch.no_grad():
        alone = model(latent, time, text, return_dict=False)[0]
        share_tokens(model, sequence, ranks)
        model.blocks[1].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
        shared = model(latent, time, text, return_dict=False)[0]
    return {
        "difference": float((shared - alone).abs().max()),
        "scale": float(alone.abs().max()),
        "tokens": seen,
    }


@pytest.mark.parametrize("per_token_time", [False, True])
@pytest.mark.parametrize(
    ("layout", "tokens"),
    [
        (Layout(), [75]),
        (Layout(ulysses=2), [38, 37]),
        (Layout(ulysses=3), [25, 25, 25]),
        (Layout(ring=2), [38, 37]),
        (Layout(ring=2, ulysses=2), [19, 19, 19, 18]),
    ],
    ids=str,
)
def test_a_spread_transformer_equals_the_one_left_alone(
    rank_pools: Pools, layout: Layout, tokens: list[int], per_token_time: bool
) -> None:
    answers = rank_pools(layout.gang_size).run(spread_transformer, layout, per_token_time)
    assert [answer["tokens"] for answer in answers] == [[count] for count in tokens]
    for answer in answers:
        assert answer["difference"] < 1e-5 * answer["scale"]


def combine(ranks: Ranks, scale: float) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    import torch

    from pipeline.parallel.cfg import Guidance

    guidance = Guidance(ranks.mesh(Layout(cfg=ranks.world_size)).get_group("cfg"))
    predictions = {"cond": torch.full((2, 3), 5.0), "uncond": torch.full((2, 3), 2.0)}
    branches = guidance.branches(scale)
    combined = guidance.combine({branch: predictions[branch] for branch in branches}, scale)
    return branches, combined.numpy()


def test_guidance_meets_in_one_prediction(rank_pools: Pools) -> None:
    guided = np.full((2, 3), 2.0 + 4.0 * (5.0 - 2.0), np.float32)
    (alone,) = rank_pools(1).run(combine, 4.0)
    first, second = rank_pools(2).run(combine, 4.0)
    assert (alone[0], first[0], second[0]) == (("cond", "uncond"), ("cond",), ("uncond",))
    for _, combined in (alone, first, second):
        np.testing.assert_array_equal(combined, guided)


def test_without_guidance_every_rank_computes_the_prompt(rank_pools: Pools) -> None:
    for branches, combined in rank_pools(2).run(combine, 1.0):
        assert branches == ("cond",)
        np.testing.assert_array_equal(combined, np.full((2, 3), 5.0, np.float32))
