from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.layout import Layout
from pipeline.limits import ModelCard
from pipeline.models.card import make_card
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks
from tests.fixtures.ranks import RankPool
from tests.fixtures.tiny_wan import CARD
from tests.pipeline import engines

Pools = Callable[[int], RankPool]


def card(ranks: Ranks, model: Path, options: dict[str, Any]) -> tuple[ModelCard, str]:
    engine = engines.load(ranks, model, Layout(ulysses=ranks.world_size), **options)
    return engine.card, engine.dtype


def test_the_directorys_card_overrides_the_familys(rank_pools: Pools, tiny_wan: Path) -> None:
    loaded, dtype = rank_pools(1).one(card, tiny_wan, {"served_model_name": "tiny"})
    assert loaded.model_dump(include=set(CARD)) == CARD
    assert (loaded.name, loaded.family, loaded.workloads) == ("tiny", "wan", ("t2v", "t2i"))
    assert (loaded.size_multiple, loaded.frame_step) == (16, 4)
    assert dtype == "float32"


def test_without_a_card_wan_has_its_own_defaults(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path
) -> None:
    model = tmp_path / "Wan2.1-Tiny"
    shutil.copytree(tiny_wan, model)
    (model / "card.json").unlink()
    loaded, _ = rank_pools(1).one(card, model, {})
    assert loaded.name == "Wan2.1-Tiny"
    assert (loaded.width, loaded.height, loaded.num_frames, loaded.fps) == (832, 480, 81, 16)
    assert (loaded.num_inference_steps, loaded.guidance_scale) == (50, 5.0)
    # The tiny model's rotary table has 64 places: 64 tokens of 16 pixels are 1024 across.
    assert (loaded.max_width, loaded.max_height, loaded.max_num_frames) == (1024, 1024, 161)


DEFAULTS: dict[str, Any] = {**CARD, "family": "wan", "workloads": ("t2v", "t2i")}


def test_a_workload_asked_for_is_the_only_one_served(tmp_path: Path) -> None:
    options = EngineOptions(model_path=str(tmp_path), workload_type="t2i")
    assert make_card(options, DEFAULTS).workloads == ("t2i",)


def test_a_workload_that_the_model_does_not_know_is_refused(tmp_path: Path) -> None:
    options = EngineOptions(model_path=str(tmp_path), workload_type="i2v")
    with pytest.raises(ValueError, match="knows t2v, t2i, not i2v"):
        make_card(options, DEFAULTS)


@pytest.mark.parametrize("content", ['{"widht": 64}', "[1]", "{", '{"width": "wide"}'])
def test_a_card_that_cannot_be_read_is_refused_by_name(tmp_path: Path, content: str) -> None:
    (tmp_path / "card.json").write_text(content)
    with pytest.raises(ValueError, match=r"cannot read .*card\.json: "):
        make_card(EngineOptions(model_path=str(tmp_path)), DEFAULTS)


def test_weights_that_are_missing_are_named(
    rank_pools: Pools, tiny_families: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    shutil.copytree(tiny_families / "wan_ti2v", model)
    (model / "vae" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(OSError, match=r"no file named diffusion_pytorch_model\..*vae"):
        rank_pools(1).one(card, model, {})


def refusal(ranks: Ranks, model: Path, layout: Layout) -> str:
    try:
        engines.load(ranks, model, layout)
    except ValueError as error:
        return str(error)
    return ""


def test_heads_that_do_not_divide_are_refused_with_the_degrees_that_do(
    rank_pools: Pools, tiny_wan: Path
) -> None:
    words = "4 heads do not divide by ulysses 3; degrees that do: 1, 2, 4"
    assert rank_pools(3).run(refusal, tiny_wan, Layout(ulysses=3)) == [words] * 3


def test_what_is_no_directory_and_no_hub_id_is_refused_by_name(rank_pools: Pools) -> None:
    words = "there is no directory none here, and no hub id is like that: owner/name"
    assert rank_pools(1).one(refusal, Path("none"), Layout()) == words


def test_a_directory_without_a_model_is_refused_by_name(rank_pools: Pools, tmp_path: Path) -> None:
    words = f"{tmp_path} is no Diffusers directory: it has no model_index.json"
    assert rank_pools(1).one(refusal, tmp_path, Layout()) == words


def test_parts_that_are_missing_are_named(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path
) -> None:
    shutil.copy(tiny_wan / "model_index.json", tmp_path)
    for part in ("scheduler", "text_encoder", "tokenizer"):
        (tmp_path / part).mkdir()
    words = f"{tmp_path} has no transformer, vae, which its model_index.json names as parts"
    assert rank_pools(1).one(refusal, tmp_path, Layout()) == words


@pytest.mark.parametrize(
    ("index", "words"),
    [
        ({"_class_name": "WanVACEPipeline"}, "is a WanVACEPipeline; families"),
        ({"_class_name": "FluxPipeline"}, "is a FluxPipeline; families that can be served: "),
        ({}, "is a None; families that can be served: "),
    ],
)
def test_a_family_that_is_not_known_is_refused_by_name(
    rank_pools: Pools, tmp_path: Path, index: dict[str, Any], words: str
) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    refused = rank_pools(1).one(refusal, tmp_path, Layout())
    assert words in refused
    assert "WanPipeline, WanImageToVideoPipeline" in refused


@pytest.mark.parametrize("content", ["{", ""])
def test_a_broken_index_is_refused_by_name(rank_pools: Pools, tmp_path: Path, content: str) -> None:
    (tmp_path / "model_index.json").write_text(content)
    words = rank_pools(1).one(refusal, tmp_path, Layout())
    assert words.startswith(f"cannot read model_index.json of {tmp_path}: ")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("wan_i2v", {"workloads": ("i2v",), "max_images": 1, "width": 832, "guidance_scale": 5.0}),
        ("wan_a14b", {"workloads": ("t2v", "t2i"), "guidance_scale": 4.0, "guidance_scale_2": 3.0}),
        ("wan_a14b_i2v", {"workloads": ("i2v",), "guidance_scale": 3.5, "guidance_scale_2": 3.5}),
        ("wan_ti2v", {"workloads": ("t2v", "t2i", "i2v"), "size_multiple": 32, "fps": 24}),
        ("flux2_base", {"workloads": ("t2i", "i2i"), "guidance_scale": 4.0}),
        ("flux2_distilled", {"max_guidance_scale": 1.0, "num_inference_steps": 4}),
    ],
)
def test_each_model_has_the_card_of_its_kind(
    rank_pools: Pools, tiny_families: Path, tmp_path: Path, name: str, words: dict[str, Any]
) -> None:
    model = tmp_path / name
    shutil.copytree(tiny_families / name, model)
    (model / "card.json").unlink(missing_ok=True)
    loaded, _ = rank_pools(1).one(card, model, {})
    assert loaded.model_dump(include=set(words)) == words


def edges(ranks: Ranks, model: Path) -> list[bool]:
    """Whether diffusers takes references just within and just beyond FLUX.2's card."""
    from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor
    from PIL import Image

    side, aspect = (engine_card := card(ranks, model, {})[0]).min_image_side, 8
    assert engine_card.max_image_aspect == aspect
    taken = []
    for size in ((side, side * aspect), (side - 1, side), (side, side * aspect + 1)):
        try:
            Flux2ImageProcessor.check_image_input(Image.new("RGB", size))
            taken.append(True)
        except ValueError:
            taken.append(False)
    return taken


def test_flux2s_card_refuses_the_references_that_diffusers_refuses(
    rank_pools: Pools, tiny_families: Path
) -> None:
    assert rank_pools(1).one(edges, tiny_families / "flux2_base") == [True, False, False]


FAMILY = """
from pathlib import Path

PIPELINES = ("ToyPipeline",)


def load(options, layout, ranks):
    raise ValueError(f"a toy from {Path(options.model_path).name}")
"""


def refusal_beside(ranks: Ranks, folder: Path, model: Path) -> str:
    """Load with one more folder to find families in."""
    from pipeline import models

    models.__path__.append(str(folder))
    try:
        return refusal(ranks, model, Layout())
    finally:
        models.__path__.remove(str(folder))


def test_a_family_is_found_by_being_there(rank_pools: Pools, tmp_path: Path) -> None:
    families, model = tmp_path / "families", tmp_path / "model"
    families.mkdir()
    model.mkdir()
    (families / "toy.py").write_text(FAMILY)
    (model / "model_index.json").write_text(json.dumps({"_class_name": "ToyPipeline"}))
    assert rank_pools(1).one(refusal_beside, families, model) == "a toy from model"
    assert "is a ToyPipeline; families" in rank_pools(1).one(refusal, model, Layout())
