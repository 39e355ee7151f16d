from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from pipeline.attention import choose
from pipeline.layout import Layout
from pipeline.parallel.ranks import Ranks
from pipeline.platforms.cpu import Cpu
from pipeline.platforms.cuda import Cuda
from pipeline.platforms.xpu import Xpu
from tests.fixtures.ranks import RankPool
from tests.pipeline import engines

Pools = Callable[[int], RankPool]
CPU = torch.device("cpu")


@pytest.mark.parametrize("asked", [None, "auto"])
def test_auto_leaves_the_choice_to_the_device(asked: str | None) -> None:
    assert choose(asked, Cpu(), CPU).backend is None


@pytest.mark.parametrize(
    ("asked", "name"),
    [("sdpa", "native"), ("native", "native"), ("_native_math", "_native_math")],
)
def test_a_name_of_the_guide_or_of_diffusers_is_taken(asked: str, name: str) -> None:
    backend = choose(asked, Cpu(), CPU).backend
    assert backend is not None
    assert backend.value == name


@pytest.mark.parametrize("platform", [Cpu(), Xpu()])
@pytest.mark.parametrize("asked", ["fa2", "fa3", "fa4", "sage", "xformers", "_native_cudnn"])
def test_what_is_not_made_for_the_device_is_refused_with_what_is(
    platform: Cpu | Xpu, asked: str
) -> None:
    words = (
        f"^attention_backend {asked} cannot serve here: it is not made for {platform.kind}; "
        "use sdpa instead$"
    )
    with pytest.raises(ValueError, match=words):
        choose(asked, platform, torch.device(platform.kind))


def test_fa3_off_hopper_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (8, 0))  # a fake A100
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "A100")
    with pytest.raises(ValueError, match=r"FlashAttention 3 .* A100 is \(8, 0\); use sdpa instead"):
        choose("fa3", Cuda(), torch.device("cuda", 0))


def test_an_operator_that_fails_when_tried_is_refused() -> None:
    with pytest.raises(ValueError, match="_native_efficient cannot serve here: No viable backend"):
        choose("_native_efficient", Cpu(), CPU)


def test_an_unknown_name_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(ValueError, match=r"fa9 is not known; these are: auto, sdpa, fa2, fa3, .*"):
        choose("fa9", Cpu(), CPU)


def test_a_ring_keeps_the_operator_of_its_device() -> None:
    assert choose("sdpa", Cpu(), CPU, Layout(ring=2)).backend is not None
    with pytest.raises(ValueError, match=r"_native_math .* a ring merges its blocks .* use sdpa"):
        choose("_native_math", Cpu(), CPU, Layout(ring=2))


def frames_and_calls(
    ranks: Ranks, model: Path, folder: Path, backend: str | None
) -> tuple[NDArray[np.uint8], int]:
    """The frames, and how often the CPU's own fused operator was called to make them."""
    from torch.profiler import ProfilerActivity, profile

    engine = engines.load(ranks, model, Layout(ulysses=ranks.world_size), attention_backend=backend)
    raw = folder / "raw.npy"
    with profile(activities=[ProfilerActivity.CPU]) as trace:
        request = engines.request_for(engine, num_inference_steps=1)
        engine.generate(request, folder / "output", engines.Recorder(), frames_file=raw)
    operator = "aten::_scaled_dot_product_flash_attention_for_cpu"
    return np.load(raw), sum(event.name == operator for event in trace.events())


def test_the_model_attends_by_the_operator_that_was_asked_for(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path
) -> None:
    pool = rank_pools(1)
    own, fused = pool.one(frames_and_calls, tiny_wan, tmp_path, None)
    other, left = pool.one(frames_and_calls, tiny_wan, tmp_path, "_native_math")
    assert fused - left == 8  # of 2 blocks, self and cross, of 2 branches; the VAE's are left
    assert np.abs(own.astype(int) - other).max() <= 1
