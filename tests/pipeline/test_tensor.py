"""Tensor parallelism of Wan's transformer, beside the same transformer left alone."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any
from unittest import mock

import pytest

from pipeline.layout import Layout
from pipeline.parallel.ranks import Ranks
from tests.fixtures.ranks import RankPool

Pools = Callable[[int], RankPool]


def share(ranks: Ranks, images: bool, planted: str = "") -> dict[str, Any]:
    """How far a Wan of 6 heads is from the one left alone, and what is left of its weights here."""
    import torch
    from diffusers import WanTransformer3DModel

    from pipeline.models import wan_parallel
    from pipeline.parallel import tensor

    torch.manual_seed(0)
    model = WanTransformer3DModel(
        num_attention_heads=6,
        attention_head_dim=12,
        text_dim=16,
        freq_dim=32,
        ffn_dim=36,
        num_layers=2,
        rope_max_seq_len=16,
        added_kv_proj_dim=72 if images else None,
        image_dim=16 if images else None,
    ).eval()
    with torch.no_grad():
        for norm in (m for m in model.modules() if isinstance(m, torch.nn.RMSNorm)):
            norm.weight.uniform_(0.5, 1.5)
        for block in model.blocks:
            block.attn1.to_out[0].weight *= 8
            block.attn2.to_out[0].weight *= 8
    latent, text = torch.randn(1, 16, 3, 8, 6), torch.randn(1, 512, 16)
    seen = {"encoder_hidden_states_image": torch.randn(1, 5, 16)} if images else {}
    time = torch.tensor([500.0])
    blocks = sum(p.numel() for p in model.blocks.parameters())
    planting = mock.patch.object(tensor, "all_reduce", lambda part, _: part)
    with torch.no_grad(), planting if planted == "no sum" else nullcontext():
        alone = model(latent, time, text, return_dict=False, **seen)[0]
        mesh = ranks.mesh(Layout(tp=ranks.world_size))
        wan_parallel.share_width(model, mesh["tp"])
        if planted == "own norm":
            for module in (m for m in model.modules() if isinstance(m, tensor.WidthNorm)):
                module._group, module._width = mesh.get_group("cfg"), 72 // ranks.world_size
        shared = model(latent, time, text, return_dict=False, **seen)[0]
    return {
        "apart": float((shared - alone).abs().max() / alone.abs().max()),
        "left": sum(p.numel() for p in model.blocks.parameters()) / blocks,
    }


@pytest.mark.parametrize("images", [False, True], ids=["text", "text+image"])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_that_share_the_width_make_what_one_makes(
    rank_pools: Pools, world_size: int, images: bool
) -> None:
    for answer in rank_pools(world_size).run(share, images):
        assert answer["apart"] < 1e-5
        # Whole on every rank: biases after a sum, the modulation, one norm.
        assert 1 / world_size <= answer["left"] < 1 / world_size + 0.05


@pytest.mark.parametrize("planted", ["no sum", "own norm"])
def test_a_fault_would_be_seen(rank_pools: Pools, planted: str) -> None:
    for answer in rank_pools(2).run(share, True, planted):
        assert answer["apart"] > 1e-3


def test_heads_that_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="6 heads do not divide by tp 4; degrees that do: 1, 2, 3"):
        Layout(tp=4).check_heads(6)
    with pytest.raises(ValueError, match=r"3 heads \(6 / tp 2\) do not divide by ulysses 2"):
        Layout(tp=2, ulysses=2).check_heads(6)
    Layout(tp=2, ulysses=3).check_heads(6)
