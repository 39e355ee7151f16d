"""The bytes that ranks send are those of the papers' formulas, layout by layout."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ops.bench.formulas import sent_bytes
from ops.bench.parallel import ROWS, Row
from pipeline.layout import Layout
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks
from pipeline.request import Params
from tests.fixtures.ranks import RankPool

Pools = Callable[[int], RankPool]

ONE_GANG = [row for row in ROWS if row.layout.dp == 1]


def look(ranks: Ranks, model: Path, folder: Path, row: Row) -> dict[str, Any]:
    from ops.bench.parallel_rank import look as look_on

    options = EngineOptions(model_path=str(model), device="cpu", **row.options)
    return look_on(ranks, row.layout, options, Params(prompt="a fox", seed=7), folder)


@pytest.mark.parametrize("row", ONE_GANG, ids=lambda row: row.name)
def test_bytes_sent_are_the_formulas(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path, row: Row
) -> None:
    """Within 2 %: pieces that do not divide, and weights that are padded to do so."""
    seen = rank_pools(row.layout.gang_size).run(look, tiny_wan, tmp_path, row)
    expected = sent_bytes(row.layout, seen[0]["shape"], shard_dim=row.shard_dim)
    kinds = {kind for kind, count in expected.items() if count}
    for rank in seen:
        assert {kind for kind, count in rank["sent_bytes_a_step"].items() if count} == kinds
    for kind in kinds:
        mean = sum(rank["sent_bytes_a_step"][kind] for rank in seen) / len(seen)
        # The tiny model's smallest weights are padded by as much as they are large.
        within = 0.1 if kind == "weights" else 0.02
        assert mean == pytest.approx(expected[kind], rel=within), kind


def test_a_ring_holds_two_blocks_and_ulysses_a_share_of_the_heads(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path
) -> None:
    def held(layout: Layout) -> list[int]:
        row = Row("", layout)
        seen = rank_pools(layout.gang_size).run(look, tiny_wan, tmp_path, row)
        return [rank["key_value_bytes"] for rank in seen]

    (one,) = held(Layout())
    assert held(Layout(ulysses=4)) == [one / 4] * 4
    assert held(Layout(ring=4)) == [one * 2 / 4] * 4
    assert held(Layout(tp=2)) == [one / 2] * 2
