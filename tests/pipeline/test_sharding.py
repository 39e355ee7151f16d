"""FSDP and HSDP: the same latent to the bit from parts of the weights."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.layout import Layout
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks
from tests.fixtures.ranks import RankPool
from tests.pipeline import engines

Pools = Callable[[int], RankPool]


def held(ranks: Ranks, model: Path, layout: Layout, options: dict[str, Any]) -> float:
    """This rank's part of the transformer's weights after a generation, 1 being all."""
    from pipeline.models import wan, wan_parallel

    seen: list[Any] = []

    def spread(transformer: Any, *args: Any) -> None:
        wan_parallel.spread(transformer, *args)
        seen.append(transformer)
        # diffusers compiles blocks by the names of their classes, which sharding changes.
        assert {type(block).__name__ for block in transformer.blocks} == {
            *transformer._repeated_blocks
        }

    with mock.patch.object(wan, "spread", spread):
        engines.latent_with(ranks, model, layout, options)
    weights = [weight for transformer in seen for weight in transformer.parameters()]
    whole = sum(weight.numel() for weight in weights)
    return float(sum(weight.to_local().numel() for weight in weights) / whole)


@pytest.mark.parametrize(
    ("layout", "shard_dim", "part"),
    [
        (Layout(ulysses=2), None, 1 / 2),
        (Layout(ulysses=4), None, 1 / 4),
        (Layout(ulysses=4), 2, 1 / 2),
        (Layout(cfg=2, ring=2), 2, 1 / 2),
        (Layout(), None, 1),
    ],
    ids=str,
)
def test_sharded_weights_change_no_bit(
    rank_pools: Pools, tiny_wan: Path, layout: Layout, shard_dim: int | None, part: float
) -> None:
    pool = rank_pools(layout.gang_size)
    sharded = {"use_fsdp_inference": True, "hsdp_shard_dim": shard_dim}
    whole: list[NDArray[np.float32]] = pool.run(engines.latent, tiny_wan, layout, {})
    parts = pool.run(engines.latent_with, tiny_wan, layout, sharded)
    for latent, expected in zip(parts, whole, strict=True):
        np.testing.assert_array_equal(latent, expected)
    for rank_part in pool.run(held, tiny_wan, layout, sharded):
        # Rows that do not divide leave one rank a little more.
        assert part * 0.8 <= rank_part <= part * 1.2


def test_blocks_of_several_dtypes_are_sharded(rank_pools: Pools, tiny_wan: Path) -> None:
    """Wan keeps norms and modulation in float32 beside bfloat16."""
    half = {"dtype": "bfloat16"}
    whole, _ = rank_pools(2).run(engines.latent_with, tiny_wan, Layout(cfg=2), half)
    sharded = {**half, "use_fsdp_inference": True}
    for latent in rank_pools(2).run(engines.latent_with, tiny_wan, Layout(cfg=2), sharded):
        np.testing.assert_array_equal(latent, whole)


def opened(ranks: Ranks, shard_dim: int | None) -> tuple[set[str], set[str]]:
    """The groups that share weights, and those over which something was exchanged as they were made."""
    from pipeline.parallel import collectives
    from pipeline.parallel.sharding import shard_mesh

    exchange = mock.Mock(wraps=collectives.all_to_all)
    with mock.patch.object(collectives, "all_to_all", exchange):
        mesh = shard_mesh(ranks, shard_dim)
    made: set[str] = {group.group_name for group in mesh.get_all_groups()}
    return made, {call.args[-1].group_name for call in exchange.call_args_list}


@pytest.mark.parametrize(("shard_dim", "groups"), [(None, 1), (2, 2)])
def test_the_groups_that_share_weights_are_opened_when_they_are_made(
    rank_pools: Pools, shard_dim: int | None, groups: int
) -> None:
    for made, exchanged in rank_pools(4).run(opened, shard_dim):
        assert exchanged == made
        assert len(made) == groups


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"use_fsdp_inference": True, "tp_size": 2}, "use_fsdp_inference with tp 2 is not served"),
        (
            {"use_fsdp_inference": True, "hsdp_shard_dim": 3},
            "hsdp_shard_dim 3 does not divide the gang's 4 ranks",
        ),
    ],
)
def test_what_cannot_be_sharded_is_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        EngineOptions(model_path="m", **options).layout(num_gpus=4)
