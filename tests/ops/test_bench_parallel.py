"""The bytes that ranks send are those of the papers' formulas, layout by layout; what they hold is
measured.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ops.bench import parallel
from ops.bench.formulas import sent_bytes
from ops.bench.parallel import ROWS, BenchError, Row
from pipeline.layout import Layout
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks
from pipeline.request import Params
from tests.fixtures.ranks import RankPool

Pools = Callable[[int], RankPool]
Looks = list[dict[str, Any]]

ONE_GANG = [row for row in ROWS if row.layout.dp == 1]


def look(ranks: Ranks, model: Path, folder: Path, row: Row) -> dict[str, Any]:
    from ops.bench.parallel_rank import look as look_on

    options = EngineOptions(model_path=str(model), device="cpu", **row.options)
    return look_on(ranks, row.layout, options, Params(prompt="a fox", seed=7), folder)


@pytest.fixture(scope="module")
def looked(
    rank_pools: Pools, tiny_wan: Path, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Looks]:
    """What each rank of a layout sends and holds, looked at once."""

    @cache
    def looks(layout: Layout, **options: Any) -> Looks:
        folder = tmp_path_factory.mktemp("looks")
        row = Row("", layout, options)
        return rank_pools(layout.gang_size).run(look, tiny_wan, folder, row)

    return looks


@pytest.mark.parametrize("row", ONE_GANG, ids=lambda row: row.name)
def test_bytes_sent_are_the_formulas(looked: Callable[..., Looks], row: Row) -> None:
    """Within 2 %: pieces that do not divide, and weights that are padded to do so."""
    seen = looked(row.layout, **row.options)
    expected = sent_bytes(row.layout, seen[0]["shape"], shard_dim=row.shard_dim)
    kinds = {kind for kind, count in expected.items() if count}
    for rank in seen:
        assert {kind for kind, count in rank["sent_bytes_a_step"].items() if count} == kinds
    for kind in kinds:
        mean = sum(rank["sent_bytes_a_step"][kind] for rank in seen) / len(seen)
        # The tiny model's smallest weights are padded by as much as they are large.
        within = 0.1 if kind == "weights" else 0.02
        assert mean == pytest.approx(expected[kind], rel=within), kind


@pytest.mark.parametrize(
    ("layout", "share"),
    [
        (Layout(ring=2), 2 / 2),
        (Layout(ring=3), 2 / 3),
        (Layout(ring=4), 2 / 4),
        (Layout(ulysses=4), 2 / 4),
        (Layout(ring=2, ulysses=2), 2 / 4),
        (Layout(tp=2), 1 / 2),
    ],
    ids=str,
)
def test_keys_and_values_are_held_twice_while_they_pass_and_no_more(
    looked: Callable[..., Looks], layout: Layout, share: float
) -> None:
    (one,) = looked(Layout())
    held = [rank["key_value_bytes"] for rank in looked(layout)]
    assert held == [one["key_value_bytes"] * share] * layout.gang_size


def test_weights_gathered_for_a_block_are_in_the_peak(looked: Callable[..., Looks]) -> None:
    """A block's are there twice, as they came and cut up."""
    (row,) = (row for row in ONE_GANG if row.name.startswith("fsdp 2"))
    (one,) = looked(Layout())
    assert one["weight_bytes"] == one["kept_weight_bytes"] == one["shape"]["all_weight_bytes"]
    layers = one["shape"]["layers"]
    for rank in looked(row.layout, **row.options):
        kept = rank["kept_weight_bytes"]
        assert kept == pytest.approx(one["weight_bytes"] / 2, rel=0.02)
        assert rank["weight_bytes"] >= kept + 2 * one["weight_bytes"] / (layers + 1)


def test_each_row_is_printed_as_it_is_measured(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A run that is cut short has shown the rows before."""
    printed: list[int] = []

    def generate(options: EngineOptions, layout: Layout, folder: Path) -> list[dict[str, Any]]:
        printed.append(capsys.readouterr().out.count("\n"))
        if len(printed) == 3:
            raise BenchError("a rank failed")
        folder.mkdir()
        for name in ("latent.npy", "frames.npy"):
            np.save(folder / name, np.zeros(1))
        held = {"key_value_bytes": 2048, "weight_bytes": 3 << 20, "kept_weight_bytes": 1 << 20}
        return [{"sent_bytes_a_step": {}, "shape": shape, **held}]

    shape = dict.fromkeys(
        ("layers", "width", "tokens", "text_tokens", "output", "latent", "element_bytes"), 1
    )
    monkeypatch.setattr(parallel, "_generate", generate)
    rows = [Row(name, Layout()) for name in ("one", "two", "three")]
    assert parallel.run_table(EngineOptions(model_path="nowhere"), rows) == 1
    assert printed == [2, 1, 1]
    assert capsys.readouterr().err.endswith("rushes: a rank failed\n")
