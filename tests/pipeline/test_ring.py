"""The ring: attention over blocks that pass by, alone and within Ulysses, on real ranks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from pipeline.layout import Layout
from pipeline.parallel.ranks import Ranks
from tests.fixtures.ranks import RankPool

Pools = Callable[[int], RankPool]

LAYOUTS = [Layout(ring=2), Layout(ring=3), Layout(ring=2, ulysses=2), Layout(ring=4)]


def spread_attention(ranks: Ranks, layout: Layout, tokens: int, form: str) -> dict[str, Any]:
    """How far the ring is from attention on one rank over this rank's tokens, and its blocks."""
    import torch

    from pipeline.parallel import lse, shift
    from pipeline.parallel.ring import ring
    from pipeline.parallel.sequence import SequenceParallel
    from pipeline.parallel.ulysses import ulysses
    from pipeline.parallel.usp import attend_alone

    sequence = SequenceParallel.of(ranks.mesh(layout))
    torch.manual_seed(0)
    whole = [torch.randn(2, tokens, 6, 8) for _ in range(3)]
    pieces = [sequence.split(tensor, 1) for tensor in whole]
    expected = sequence.split(attend_alone(whole), 1)
    seen: list[int] = []
    own = lse.operator(ranks.platform.lse_operators[0])

    def attend(*qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(qkv[1].shape[2])
        return own(*qkv)

    spread = ulysses(ring(attend, sequence, getattr(shift, form)), sequence)
    return {"apart": float((spread(pieces) - expected).abs().max()), "blocks": seen}


@pytest.mark.parametrize("form", ["point_to_point", "permutation"])
@pytest.mark.parametrize("tokens", [31, 4])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_the_ring_is_attention_over_the_whole_sequence(
    rank_pools: Pools, layout: Layout, tokens: int, form: str
) -> None:
    """To float32 rounding, on blocks of uneven lengths that carry no padding into the attention."""
    answers = rank_pools(layout.gang_size).run(spread_attention, layout, tokens, form)
    for answer in answers:
        assert answer["apart"] < 2e-6
        assert sum(answer["blocks"]) == tokens
        assert len(answer["blocks"]) == layout.ring


def blocks_alive(ranks: Ranks, layout: Layout, form: str) -> list[float]:
    """Keys and values alive at each attend of Wan's self-attention, in blocks.

    They are bfloat16, as nothing else is here but the queries and what was there before.
    """
    import gc
    import time

    import torch
    from torch import nn

    from pipeline.models.wan_parallel import SelfAttention
    from pipeline.parallel import lse, shift
    from pipeline.parallel.ring import ring
    from pipeline.parallel.sequence import SequenceParallel
    from pipeline.parallel.ulysses import ulysses

    def alive() -> dict[int, int]:
        tensors = [thing for thing in gc.get_objects() if type(thing) is torch.Tensor]
        storages = [t.untyped_storage() for t in tensors if t.dtype == torch.bfloat16]
        return {storage._cdata: storage.nbytes() for storage in storages}

    class Attention(nn.Module):
        heads, norm_q, norm_k = 4, nn.Identity(), nn.Identity()

        def __init__(self) -> None:
            super().__init__()
            self.to_q, self.to_k, self.to_v = (nn.Linear(32, 32).bfloat16() for _ in range(3))
            self.to_out = nn.ModuleList([nn.Identity(), nn.Identity()])

    own = lse.operator(ranks.platform.lse_operators[0])
    seen: list[float] = []

    def attend(*qkv: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        deadline = time.monotonic() + 5
        while True:  # gloo's threads let go of a tensor a moment after its arrival
            now = sum(size for key, size in alive().items() if key not in before)
            blocks = (now - qkv[0].nbytes) / (qkv[1].nbytes + qkv[2].nbytes)
            if blocks <= 2 or time.monotonic() > deadline:
                break
            time.sleep(0.005)
        seen.append(blocks)
        return own(*qkv)

    sequence = SequenceParallel.of(ranks.mesh(layout))
    tokens = sequence.split(torch.randn(1, 48, 32).bfloat16(), 1)
    rotary = (torch.ones(1, tokens.shape[1], 1, 8), torch.zeros(1, tokens.shape[1], 1, 8))
    attention = Attention()
    processor = SelfAttention(ulysses(ring(attend, sequence, getattr(shift, form)), sequence))
    gc.collect()
    before = alive()
    with torch.no_grad():
        processor(attention, tokens, None, None, rotary)
    return seen


@pytest.mark.parametrize("form", ["point_to_point", "permutation"])
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_two_blocks_are_alive_and_at_the_last_turn_one(
    rank_pools: Pools, layout: Layout, form: str
) -> None:
    for seen in rank_pools(layout.gang_size).run(blocks_alive, layout, form):
        assert seen == [2.0] * (layout.ring - 1) + [1.0]


def kept_after_arrival(ranks: Ranks) -> list[bool]:
    """Whether what was sent, and what came, outlive their users while the arrival is still there."""
    import torch

    from ops.bench.holding import Reference
    from pipeline.parallel import shift

    group = ranks.mesh(Layout(ring=ranks.world_size)).get_group("ring")
    block = torch.ones(8)
    sent = Reference(block)
    coming = shift.point_to_point(block, (8,), group)
    del block
    on_its_way = sent.size() > 0
    block = coming()
    came = Reference(block)
    del block
    assert coming is not None
    return [on_its_way, sent.size() > 0, came.size() > 0]


def test_an_arrival_keeps_what_is_sent_until_it_has_left(rank_pools: Pools) -> None:
    assert rank_pools(2).run(kept_after_arrival) == [[True, False, False]] * 2


def wrong_block(ranks: Ranks) -> float:
    """The same with a shift that brings values for keys."""
    from pipeline.parallel import shift

    right = shift.point_to_point
    shift.point_to_point = lambda block, shape, group: lambda: right(block, shape, group)().flip(0)
    try:
        apart: float = spread_attention(ranks, Layout(ring=2), 31, "point_to_point")["apart"]
    finally:
        shift.point_to_point = right
    return apart


def test_a_wrong_block_would_be_seen(rank_pools: Pools) -> None:
    assert min(rank_pools(2).run(wrong_block)) > 0.1


def shares(ranks: Ranks, tokens: int, layout: Layout) -> tuple[int, list[int], list[int]]:
    import torch

    from pipeline.parallel.sequence import SequenceParallel

    sequence = SequenceParallel.of(ranks.mesh(layout))
    piece = sequence.split(torch.zeros(1, tokens, 1), 1)
    whole = sequence.gather(piece + ranks.rank, 1)
    counts = torch.bincount(whole.flatten().long()).tolist()
    return piece.shape[1], sequence.blocks, counts


@pytest.mark.parametrize(
    ("layout", "blocks"),
    [
        (Layout(ulysses=4), [28350]),
        (Layout(ring=2, ulysses=2), [14176, 14174]),
        (Layout(ring=4), [7088, 7088, 7087, 7087]),
    ],
    ids=str,
)
def test_81_frames_of_480x720_are_shared_by_4_ranks(
    rank_pools: Pools, layout: Layout, blocks: list[int]
) -> None:
    """28,350 tokens do not divide by 4."""
    for rank, answer in enumerate(rank_pools(4).run(shares, 21 * 30 * 45, layout)):
        assert answer == ([7088, 7088, 7087, 7087][rank], blocks, [7088, 7088, 7087, 7087])


def choices(ranks: Ranks, broken: bool) -> str:
    """The shift chosen when point to point brings nothing, or when all is well."""
    import torch

    from pipeline.parallel import shift

    right = shift.point_to_point
    if broken:
        shift.point_to_point = lambda _, shape, __: lambda: torch.full(shape, -1.0)  # type: ignore[assignment]
    try:
        chosen = shift.choose(ranks)
    finally:
        shift.point_to_point = right
    return "permutation" if chosen is shift.permutation else "point to point"


@pytest.mark.parametrize(("broken", "name"), [(False, "point to point"), (True, "permutation")])
def test_the_form_of_the_shift_is_tried_at_start(
    rank_pools: Pools, broken: bool, name: str
) -> None:
    assert rank_pools(3).run(choices, broken) == [name] * 3


def refused(ranks: Ranks, operators: tuple[str, ...]) -> str:
    import torch

    from pipeline.parallel import lse

    class Without:
        kind = "cpu"
        lse_operators = operators

    class Somewhere:
        platform, device, gather_text = Without, ranks.device, ranks.gather_text

    try:
        lse.choose(Somewhere, 8, torch.float32)  # type: ignore[arg-type]
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("operators", "words"),
    [
        ((), "no attention operator of cpu returns the log-sum-exp"),
        (("_no_such_operator",), "_no_such_operator: "),
        (("_scaled_dot_product_fused_attention_overrideable",), "overrideable: "),
    ],
)
def test_without_a_log_sum_exp_the_ring_is_refused(
    rank_pools: Pools, operators: tuple[str, ...], words: str
) -> None:
    for answer in rank_pools(2).run(refused, operators):
        assert answer.startswith("the ring is refused")
        assert words in answer
        assert answer.endswith("use ulysses")
