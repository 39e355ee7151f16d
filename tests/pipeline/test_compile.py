from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.compile import compile_blocks
from pipeline.layout import Layout
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks
from tests.fixtures.ranks import RankPool
from tests.pipeline import engines
from tests.pipeline.test_memory import on_fake_device

Pools = Callable[[int], RankPool]


def shared_latent(
    ranks: Ranks, model: Path, layout: Layout, compiled: bool
) -> tuple[NDArray[np.float32], int]:
    """This rank's clean latent, and how many graphs it compiled for it."""
    from torch._dynamo.utils import counters

    counters.clear()
    latent = engines.latent_with(ranks, model, layout, {"enable_torch_compile": compiled})
    return latent, counters["stats"]["unique_graphs"]


def test_compiled_blocks_may_exchange_tensors_within(rank_pools: Pools, tiny_wan: Path) -> None:
    """No further from one eager rank than compiling alone takes it (docs/TUNING.md: 1.0e-5 of 4.0)."""
    layout = Layout(ulysses=2)
    alone: NDArray[np.float32] = rank_pools(1).one(engines.latent_with, tiny_wan, Layout(), {})
    for latent, graphs in rank_pools(2).run(shared_latent, tiny_wan, layout, True):
        assert graphs > 0
        np.testing.assert_allclose(latent, alone, rtol=0, atol=2e-5)


def frames_offloaded(
    ranks: Ranks, model: Path, folder: Path, compiled: bool
) -> tuple[NDArray[np.uint8], int]:
    """The same of a transformer that comes block by block to a fake device, some steps foretold."""
    from torch._dynamo.utils import counters

    counters.clear()
    options = {"dit_cpu_offload": True, "step_cache": True, "enable_torch_compile": compiled}
    with mock.patch("pipeline.compile.has_triton", return_value=True):
        engine = engines.load(on_fake_device(ranks), model, Layout(), **options)
    raw = folder / "raw.npy"
    request = engines.request_for(engine, num_inference_steps=8, fidelity="bounded")
    engine.generate(request, folder / "output", engines.Recorder(), frames_file=raw)
    return np.load(raw), counters["stats"]["unique_graphs"]


def test_compiled_blocks_may_be_offloaded_and_skipped(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path
) -> None:
    pool = rank_pools(1)
    eager, none = pool.one(frames_offloaded, tiny_wan, tmp_path, False)
    compiled, graphs = pool.one(frames_offloaded, tiny_wan, tmp_path, True)
    assert (none, graphs > 0) == (0, True)
    assert np.abs(eager.astype(int) - compiled).max() <= 1


class OneRank:
    """Where the tests below pretend to be."""

    def __init__(self, in_host_memory: bool) -> None:
        self.platform = type("Platform", (), {"in_host_memory": in_host_memory})


@pytest.mark.parametrize(
    ("in_host_memory", "missing"), [(True, r"a C\+\+ compiler"), (False, "Triton for this device")]
)
def test_without_a_compiler_it_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, in_host_memory: bool, missing: str
) -> None:
    monkeypatch.setattr("pipeline.compile.has_triton", lambda: False)
    monkeypatch.setattr("shutil.which", lambda _: None)
    options = EngineOptions(model_path="m", enable_torch_compile=True)
    with pytest.raises(ValueError, match=f"^enable_torch_compile needs {missing}"):
        compile_blocks(torch.nn.Module(), options, OneRank(in_host_memory))  # type: ignore[arg-type]
