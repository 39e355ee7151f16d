from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from numpy.typing import NDArray

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

    from pipeline.models.wan_decoding import decode

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


SMALL_TILES = {
    "tile_sample_min_height": 48,
    "tile_sample_min_width": 32,
    "tile_sample_stride_height": 32,
    "tile_sample_stride_width": 24,
}


def tiles(ranks: Ranks, model: Path, at_once: int) -> tuple[NDArray[np.float32], float]:
    """A latent of 3 x 4 tiles decoded by the ranks, and how far that is from diffusers' own."""
    import torch
    from diffusers import AutoencoderKLWan

    from pipeline.models.wan_decoding import decode_tiles

    vae = AutoencoderKLWan.from_pretrained(model, subfolder="vae")
    vae.enable_tiling(**SMALL_TILES)
    torch.manual_seed(0)
    latent = torch.randn(1, 16, 4, 10, 11)
    shape = (1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape)
    deviation = torch.tensor(vae.config.latents_std).view(shape)
    with torch.no_grad():
        chunks = [chunk for chunk in decode_tiles(vae, latent, at_once, ranks) if chunk.numel()]
        if ranks.rank != 0:
            assert not chunks
            return np.empty(0, np.float32), 0.0
        pixels = torch.cat(chunks, dim=2)
        own = vae.tiled_decode(latent / (1.0 / deviation) + mean, return_dict=False)[0]
    return pixels.numpy(), float((pixels - own).abs().max())


@pytest.mark.parametrize(("at_once", "apart"), [(1, 2e-6), (2, 1e-5)])
def test_tiles_are_diffusers_and_the_same_on_any_number_of_ranks(
    rank_pools: Pools, tiny_wan: Path, at_once: int, apart: float
) -> None:
    """From diffusers' by rounding: the 1x1x1 convolution runs over the whole latent here, there over
    each tile, which some CPUs compute alike and others do not (seen: 0 and 7.2e-7)."""
    one, difference = rank_pools(1).one(tiles, tiny_wan, at_once)
    assert difference <= apart
    assert one.shape == (1, 3, 13, 80, 88)
    for world_size in (2, 3):
        np.testing.assert_array_equal(rank_pools(world_size).one(tiles, tiny_wan, at_once)[0], one)


def image_in_tiles(ranks: Ranks, model: Path, tiling: str) -> tuple[NDArray[np.float32], bool]:
    """FLUX.2's image, of 3 x 4 small tiles, and whether rank 0's is what diffusers decodes."""
    import torch
    from diffusers import Flux2KleinPipeline

    from pipeline.models import flux2_decoding
    from pipeline.stages.decoding import Together

    pipe: Any = Flux2KleinPipeline.from_pretrained(model)
    pipe.vae.tile_latent_min_size, pipe.vae.tile_sample_min_size = 8, 64
    torch.manual_seed(0)
    state: Any = SimpleNamespace(latent=torch.randn(1, 16, 7, 10))
    with (
        torch.no_grad(),
        mock.patch.object(
            pipe, "_unpatchify_latents", wraps=pipe._unpatchify_latents
        ) as unpatchify,
    ):
        decoded = flux2_decoding.decoder(pipe, tiling, ranks)(state)  # type: ignore[arg-type]
        assert isinstance(decoded, Together) == (tiling == "on")
        (image,) = decoded.chunks if isinstance(decoded, Together) else decoded
        pipe.vae.use_tiling = tiling == "on"
        (patched,) = unpatchify.call_args.args
        own = pipe.vae.decode(pipe._unpatchify_latents(patched), return_dict=False)[0][:, :, None]
    return image.numpy(), ranks.rank != 0 or torch.equal(image, own)


@pytest.mark.parametrize("tiling", ["on", "off"])
def test_flux2_decodes_as_diffusers_does_on_any_number_of_ranks(
    rank_pools: Pools, tiny_families: Path, tiling: str
) -> None:
    model = tiny_families / "flux2_base"
    one, same = rank_pools(1).one(image_in_tiles, model, tiling)
    assert same
    assert one.shape == (1, 3, 1, 112, 160)
    if tiling == "off":
        tiled, _ = rank_pools(1).one(image_in_tiles, model, "on")
        assert np.abs(one - tiled).max() > 0.01
        return
    for world_size in (2, 3):
        first, *others = rank_pools(world_size).run(image_in_tiles, model, tiling)
        np.testing.assert_array_equal(first[0], one)
        assert not any(image.size for image, _ in others)


def test_every_tile_has_a_rank_and_the_work_is_even() -> None:
    from pipeline.parallel.tiles import owners

    assert owners([9, 9, 3, 9, 9, 3], 2) == [0, 1, 0, 0, 1, 1]
    assert owners([5], 3) == [0]
    assert sorted(owners([1] * 7, 3)) == [0, 0, 0, 1, 1, 2, 2]


def in_tiles(ranks: Ranks, model: Path, tiling: str | None) -> Any:
    """An engine whose VAE has tiles small enough for tiny frames."""
    from pipeline.models import wan, wan_decoding

    def decoder(vae: Any, *args: Any) -> Any:
        vae.enable_tiling(**SMALL_TILES)
        return wan_decoding.decoder(vae, *args)

    with mock.patch.object(wan, "decoder", decoder):
        layout = Layout(ring=ranks.world_size)
        return engines.load(ranks, model, layout, vae_tiling=tiling)


def generate(ranks: Ranks, model: Path, folder: Path, tiling: str | None) -> NDArray[np.uint8]:
    engine, raw = in_tiles(ranks, model, tiling), folder / f"{ranks.world_size}-{tiling}.npy"
    file = raw.with_suffix(".mp4")
    engine.generate(engines.request_for(engine), file, engines.Recorder(), frames_file=raw)
    return np.load(raw) if ranks.rank == 0 else np.empty(0, np.uint8)


def test_tiling_is_chosen_by_setting_and_size_never_by_the_number_of_ranks(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path
) -> None:
    by_setting = {
        tiling: [
            rank_pools(world_size).one(generate, tiny_wan, tmp_path, tiling)
            for world_size in (1, 3)
        ]
        for tiling in ("on", "off", None)
    }
    for one, three in by_setting.values():
        # The latents of 1 and 3 ranks differ by rounding.
        assert np.abs(one.astype(int) - three.astype(int)).max() <= 1
    np.testing.assert_array_equal(by_setting["off"][0], by_setting[None][0])
    assert np.abs(by_setting["on"][0].astype(int) - by_setting["off"][0].astype(int)).max() > 3


def stop_and_go_on(ranks: Ranks, model: Path, folder: Path, how: str) -> tuple[str, bool]:
    """End a shared decoding early, then generate again."""
    from pipeline.engine import Cancelled, NotFinite, OutputError

    engine = in_tiles(ranks, model, "on")
    request, told = engines.request_for(engine), "ended"
    control = engines.Recorder(stop_after=("decoding", 1) if how == "cancel" else None)
    (stage,) = (stage for stage in engine.model.stages if stage.name == "decoding")
    right = stage._decode

    def damaged(state: State) -> Any:
        state.latent = state.latent * np.nan
        return right(state)

    stage._decode = damaged if how == "nan" else right
    file = folder / ("missing/clip.mp4" if how == "disk" else "clip.mp4")
    try:
        engine.generate(request, file, control)
    except (Cancelled, NotFinite, OutputError) as error:
        told = type(error).__name__
    stage._decode = right
    again = folder / "again.mp4"
    engine.generate(request, again, engines.Recorder())
    return told, ranks.agree(again.exists())


@pytest.mark.parametrize(
    ("how", "told"), [("cancel", "Cancelled"), ("disk", "OutputError"), ("nan", "NotFinite")]
)
def test_a_shared_decoding_that_ends_early_leaves_the_ranks_in_step(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path, how: str, told: str
) -> None:
    assert rank_pools(2).run(stop_and_go_on, tiny_wan, tmp_path, how) == [
        (told, True),
        ("ended", True),
    ]
