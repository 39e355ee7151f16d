from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import pytest
import torch

from pipeline.layout import Layout
from pipeline.parallel import collectives
from pipeline.parallel.collectives import all_to_all
from pipeline.parallel.ranks import Ranks
from tests.fixtures.ranks import RankPool

Pools = Callable[[int], RankPool]


def words(ranks: Ranks) -> tuple[str, str, list[str]]:
    said = ranks.broadcast_text("prompt: ein Würfel\n" * 500 if ranks.rank == 0 else "ignored")
    empty = ranks.broadcast_text("" if ranks.rank == 0 else None)
    return said, empty, ranks.gather_text("ü" * ranks.rank)


@pytest.mark.parametrize("world_size", [1, 3])
def test_words_reach_every_rank_whole(rank_pools: Pools, world_size: int) -> None:
    for said, empty, gathered in rank_pools(world_size).run(words):
        assert said == "prompt: ein Würfel\n" * 500
        assert empty == ""
        assert gathered == ["ü" * rank for rank in range(world_size)]


def decide(ranks: Ranks, flags: list[bool]) -> bool:
    return ranks.agree(flags[ranks.rank])


@pytest.mark.parametrize("leader", [True, False])
def test_ranks_that_disagree_follow_rank_0(rank_pools: Pools, leader: bool) -> None:
    assert rank_pools(2).run(decide, [leader, not leader]) == [leader, leader]


def places(
    ranks: Ranks, layout: Layout, names: tuple[str, ...] = ("cfg", "ulysses")
) -> dict[str, list[int]]:
    import torch.distributed as dist

    mesh = ranks.mesh(layout)
    return {name: dist.get_process_group_ranks(mesh.get_group(name)) for name in names}


def test_ranks_are_numbered_with_ulysses_faster_than_cfg(rank_pools: Pools) -> None:
    assert rank_pools(4).run(places, Layout(cfg=2, ulysses=2)) == [
        {"cfg": [0, 2], "ulysses": [0, 1]},
        {"cfg": [1, 3], "ulysses": [0, 1]},
        {"cfg": [0, 2], "ulysses": [2, 3]},
        {"cfg": [1, 3], "ulysses": [2, 3]},
    ]


def test_sp_is_ring_x_ulysses_flattened(rank_pools: Pools) -> None:
    names = ("sp", "ring", "ulysses")
    assert rank_pools(4).run(places, Layout(ring=2, ulysses=2), names) == [
        {"sp": [0, 1, 2, 3], "ring": [0, 2], "ulysses": [0, 1]},
        {"sp": [0, 1, 2, 3], "ring": [1, 3], "ulysses": [0, 1]},
        {"sp": [0, 1, 2, 3], "ring": [0, 2], "ulysses": [2, 3]},
        {"sp": [0, 1, 2, 3], "ring": [1, 3], "ulysses": [2, 3]},
    ]


@pytest.mark.parametrize(
    ("layout", "words"),
    [
        (Layout(ulysses=4), "a gang of 2 ranks cannot be laid out as 4 = dp 1"),
    ],
)
def test_a_layout_that_cannot_be_is_refused_by_name(
    rank_pools: Pools, layout: Layout, words: str
) -> None:
    for answer in rank_pools(2).run(places, layout):
        assert isinstance(answer, ValueError)
        assert words in str(answer)


def test_a_rank_without_the_device_asked_for_is_refused() -> None:
    from pathlib import Path

    from pipeline.parallel.ranks import join

    with pytest.raises(ValueError, match="no xpu device is there"):
        join(rank=0, world_size=1, rendezvous=Path("/nowhere"), device="xpu")


def opened(ranks: Ranks, layout: Layout) -> tuple[set[str], set[str]]:
    """The groups of a layout, and those over which something was exchanged while they were made."""
    exchanged: set[str] = set()

    def listen(tensor: torch.Tensor, received: Any, sent: Any, group: Any) -> torch.Tensor:
        exchanged.add(group.group_name)
        return all_to_all(tensor, received, sent, group)

    with mock.patch.object(collectives, "all_to_all", listen):
        mesh = replace(ranks, _meshes={}).mesh(layout)  # not one that another test has made
    named = ("cfg", "ring", "ulysses", "tp", "sp")
    return {mesh.get_group(name).group_name for name in named}, exchanged


def test_a_layouts_groups_are_opened_when_they_are_made(rank_pools: Pools) -> None:
    for groups, exchanged in rank_pools(4).run(opened, Layout(cfg=2, ring=2)):
        assert exchanged == groups
