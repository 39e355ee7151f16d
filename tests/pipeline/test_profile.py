from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.layout import Layout
from pipeline.limits import RequestError
from pipeline.parallel.ranks import Ranks
from pipeline.profile import Profiler
from tests.fixtures.ranks import RankPool
from tests.pipeline import engines

Pools = Callable[[int], RankPool]


def generate(ranks: Ranks, model: Path, folder: Path, traces: Path | None) -> None:
    profile = None if traces is None else str(traces)
    layout = Layout(ulysses=ranks.world_size)
    engine = engines.load(ranks, model, layout, profile=profile)
    request = engines.request_for(engine, num_inference_steps=1)
    engine.generate(request, folder / "output", engines.Recorder())


def test_every_rank_writes_what_it_did(rank_pools: Pools, tiny_wan: Path, tmp_path: Path) -> None:
    rank_pools(2).one(generate, tiny_wan, tmp_path, tmp_path / "traces")
    files = sorted((tmp_path / "traces").rglob("*"))
    assert [str(file.relative_to(tmp_path)) for file in files if file.is_file()] == [
        "traces/gang0/run0-rank0.json.gz",
        "traces/gang0/run0-rank1.json.gz",
    ]
    for file in files[1:]:
        events = json.loads(gzip.decompress(file.read_bytes()))["traceEvents"]
        names = {event.get("name", "") for event in events}
        assert any("scaled_dot_product" in name for name in names)


def test_without_the_option_nothing_is_traced(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path
) -> None:
    rank_pools(1).one(generate, tiny_wan, tmp_path, None)
    assert not list(tmp_path.rglob("*.json.gz"))


def fail(ranks: Ranks, traces: Path, writable: bool) -> str:
    """How a profiled run ends that fails."""
    profiler = Profiler(str(traces), ranks)
    if not writable:
        (traces / "gang0").rmdir()
    with pytest.raises(RequestError) as refused, profiler.run():
        raise RequestError("image", "fox.png", "is too small")
    return str(refused.value)


@pytest.mark.parametrize("writable", [True, False], ids=["a folder", "no folder any more"])
def test_a_run_that_fails_leaves_its_trace_and_fails_as_without_one(
    rank_pools: Pools, tmp_path: Path, writable: bool
) -> None:
    said = rank_pools(1).one(fail, tmp_path, writable)
    assert said == "image is too small, got 'fox.png'"
    assert [file.name for file in tmp_path.rglob("*.gz")] == ["run0-rank0.json.gz"] * writable


def count(ranks: Ranks, traces: Path) -> None:
    profiler = Profiler(str(traces), ranks)
    for _ in range(5):
        with profiler.run():
            pass


def test_a_service_does_not_fill_its_disk_with_traces(rank_pools: Pools, tmp_path: Path) -> None:
    pool = rank_pools(1)
    for _ in range(2):  # a gang that starts anew keeps the last one's
        pool.one(count, tmp_path)
    assert sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.gz")) == [
        f"gang{gang}/run{run}-rank0.json.gz" for gang in range(2) for run in range(3)
    ]
