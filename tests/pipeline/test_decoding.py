from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.layout import Layout
from pipeline.parallel.ranks import Ranks
from pipeline.stages.control import Steps
from pipeline.stages.state import State
from tests.fixtures.ranks import RankPool
from tests.pipeline import engines

Pools = Callable[[int], RankPool]


def stream(ranks: Ranks, model: Path, latent_frames: int, at_once: int) -> tuple[list[int], float]:
    """Frames of each chunk, and the largest difference from decoding the whole."""
    import torch
    from diffusers import AutoencoderKLWan

    from pipeline.models.wan import decode

    del ranks
    vae = AutoencoderKLWan.from_pretrained(model, subfolder="vae")
    torch.manual_seed(0)
    latent = torch.randn(1, 16, latent_frames, 8, 6)
    shape = (1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape)
    deviation = torch.tensor(vae.config.latents_std).view(shape)
    with torch.no_grad():
        chunks = list(decode(vae, latent, at_once))
        whole = vae.decode(latent / (1.0 / deviation) + mean, return_dict=False)[0]
    difference = float((torch.cat(chunks, dim=2) - whole).abs().max())
    return [chunk.shape[2] for chunk in chunks], difference


@pytest.mark.parametrize(("latent_frames", "chunks"), [(1, [1]), (4, [1, 4, 4, 4])])
def test_one_latent_frame_at_a_time_is_the_vae_bit_for_bit(
    rank_pools: Pools, tiny_wan: Path, latent_frames: int, chunks: list[int]
) -> None:
    assert rank_pools(1).one(stream, tiny_wan, latent_frames, 1) == (chunks, 0.0)


@pytest.mark.parametrize(
    ("latent_frames", "at_once", "chunks"),
    [(1, 3, [1]), (6, 3, [1, 12, 8]), (5, 9, [1, 16])],
)
def test_several_at_once_are_the_vae_to_rounding(
    rank_pools: Pools, tiny_wan: Path, latent_frames: int, at_once: int, chunks: list[int]
) -> None:
    frames, difference = rank_pools(1).one(stream, tiny_wan, latent_frames, at_once)
    assert frames == chunks
    assert difference < 1e-5


def first_chunks(ranks: Ranks, model: Path, width: int, height: int) -> list[int]:
    """Frames of the first two chunks of the engine's own decoding."""
    import torch

    engine = engines.load(ranks, model, Layout())
    (stage,) = (stage for stage in engine.model.stages if stage.name == "decoding")
    state = State(engines.request_for(engine, num_frames=13), inputs=engines.NOWHERE)
    state.latent = torch.zeros(1, 16, 4, height // 8, width // 8)
    with torch.no_grad():
        stage.run(state, Steps(engines.Recorder(), ranks))
        return [len(chunk) for chunk in itertools.islice(state.frames, 2)]


def test_how_much_is_decoded_at_once_goes_by_the_frame_size(
    rank_pools: Pools, tiny_wan: Path
) -> None:
    assert rank_pools(1).one(first_chunks, tiny_wan, 128, 128) == [1, 12]
    assert rank_pools(1).one(first_chunks, tiny_wan, 384, 352) == [1, 4]
