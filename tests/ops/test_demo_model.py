"""The demo model: its judge, its training's shortcuts, and what it makes of prompts."""

import json
import warnings
from collections.abc import Iterator
from typing import Any

import av
import numpy as np
import pytest
import torch

from ops.demo_model.flow import block, denoise, encode_text, pad_bias
from ops.demo_model.models import new_text_encoder, new_tokenizer, new_transformer, new_vae
from ops.demo_model.render import draw, indices, scene_of, tables
from ops.demo_model.scorer import judge
from ops.demo_model.whole import decode, encode, norm_act, use_whole_sequence
from ops.demo_model.world import (
    BACKGROUNDS,
    COLOURS,
    MOTIONS,
    SHAPES,
    Combination,
    combinations,
    held_out,
    trained,
)
from ops.options import DEMO_MODEL
from pipeline import DiffGenerator
from pipeline.generator import Output

# Held out of training; every shape, and each kind of motion.
PROMPTS = (
    Combination("square", "red", "brown", "moving up"),
    Combination("triangle", "purple", "pink", "growing"),
    Combination("circle", "white", "brown", "standing still"),
    Combination("square", "yellow", "pink", "moving left"),
)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture(scope="module")
def generator() -> Iterator[DiffGenerator]:
    """Our engine, as a service runs it: two ranks, a CFG branch each."""
    with DiffGenerator.from_pretrained(
        DEMO_MODEL, num_gpus=2, enable_cfg_parallel=True, device="cpu"
    ) as generator:
        yield generator


def rendered(asked: tuple[Combination, ...], frames: int = 17) -> np.ndarray[Any, Any]:
    """Clips uint8 [B, F, H, W, 3] drawn without any model."""
    cpu = torch.device("cpu")
    clip, _ = draw(scene_of(tables(cpu), indices(asked, cpu), frames))
    return ((clip + 1) * 127.5).round().byte().permute(0, 2, 3, 4, 1).numpy()


def image(generator: DiffGenerator, prompt: str, **how: Any) -> Any:
    """One frame uint8 [1, H, W, 3]."""
    output = generator.generate(prompt, num_frames=1, return_frames=True, save_output=False, **how)
    assert isinstance(output, dict)
    return output["frames"]


def decoded(file: str) -> np.ndarray[Any, Any]:
    """What a player shows of a video, uint8 [F, H, W, 3]."""
    with av.open(file, "r") as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_split_leaves_every_word_in_training() -> None:
    assert len(held_out()) == 64
    assert len(trained()) == 672 - 64
    assert not set(held_out()) & set(trained())
    for field, words in {
        "shape": SHAPES,
        "colour": COLOURS,
        "background": BACKGROUNDS,
        "motion": MOTIONS,
    }.items():
        assert {getattr(combination, field) for combination in trained()} == set(words)
    assert set(PROMPTS) <= set(held_out())


@pytest.mark.parametrize("motion", MOTIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_scorer_names_what_was_drawn(shape: str, motion: str) -> None:
    asked = tuple(c for c in combinations() if (c.shape, c.motion) == (shape, motion))[::4]
    for combination, clip in zip(asked, rendered(asked), strict=True):
        assert all(judge(clip).matches(combination).values()), combination.prompt


def test_scorer_says_which_part_is_wrong() -> None:
    drawn = Combination("circle", "red", "black", "moving right")
    (clip,) = rendered((drawn,))
    for wrong, field in (
        (Combination("square", "red", "black", "moving right"), "shape"),
        (Combination("circle", "blue", "black", "moving right"), "colour"),
        (Combination("circle", "red", "gray", "moving right"), "background"),
        (Combination("circle", "red", "black", "moving left"), "motion"),
    ):
        right = judge(clip).matches(wrong)
        assert not right.pop(field)
        assert all(right.values())


def test_scorer_names_nothing_in_noise_emptiness_or_a_crowd() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (17, 128, 128, 3), dtype=np.uint8)
    assert judge(noise).shape is None
    empty = np.zeros((17, 128, 128, 3), np.uint8)
    verdict = judge(empty)
    assert (verdict.shape, verdict.colour, verdict.motion) == (None, None, None)
    assert verdict.background == "black"
    two = np.maximum(*rendered((Combination("circle", "red", "black", "standing still"),) * 2))
    assert judge(two).shape is None


def test_scorer_refuses_other_arrays() -> None:
    with pytest.raises(ValueError, match="float64"):
        judge(np.zeros((17, 128, 128, 3)))  # type: ignore[arg-type]


def test_whole_sequence_vae_equals_chunked() -> None:
    vae = new_vae(base_dim=4)
    clip = torch.rand(1, 3, 9, 32, 32) * 2 - 1
    with torch.no_grad():
        chunked = vae.encode(clip).latent_dist
        back = vae.decode(chunked.mean).sample
        use_whole_sequence(vae, norm_act)
        mean, logvar = encode(vae, clip)
        torch.testing.assert_close(mean, chunked.mean, atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(logvar, chunked.logvar, atol=1e-5, rtol=1e-4)
        whole = decode(vae, chunked.mean).clamp(-1, 1)
        torch.testing.assert_close(whole, back, atol=1e-5, rtol=1e-4)


def test_few_text_slots_equal_512_pads() -> None:
    tokenizer, encoder = new_tokenizer(), new_text_encoder()
    model = new_transformer(num_layers=2)
    noisy, time = torch.randn(1, 16, 3, 8, 8), torch.tensor([400.0])
    with torch.no_grad():
        words = tokenizer(
            ["a red circle, dancing"], padding="max_length", max_length=512, return_tensors="pt"
        )
        text = encoder(words.input_ids, words.attention_mask).last_hidden_state
        text = text * words.attention_mask[..., None]
        wanted = model(noisy, time, text, return_dict=False)[0]
        few = words.input_ids[:, :24]
        bias = pad_bias(few, torch.tensor([489.0]))
        found = denoise(model, noisy, time, encode_text(encoder, few), bias, block)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)


def test_files_stay_small_and_card_names_native_size() -> None:
    files = [path for path in DEMO_MODEL.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) <= 16_000_000
    assert not [path.name for path in files if path.suffix not in {".json", ".safetensors"}]
    card = json.loads((DEMO_MODEL / "card.json").read_text())
    assert (card["width"], card["height"], card["num_frames"]) == (128, 128, 17)


@pytest.fixture(scope="module")
def outputs(generator: DiffGenerator, tmp_path_factory: pytest.TempPathFactory) -> list[Output]:
    """A clip of each of PROMPTS, all of the same seed."""
    made = generator.generate(
        [combination.prompt for combination in PROMPTS],
        seed=0,
        num_inference_steps=10,
        return_frames=True,
        output_path=tmp_path_factory.mktemp("clips"),
    )
    assert isinstance(made, list)
    return made


@pytest.mark.parametrize("index", range(len(PROMPTS)))
def test_engine_makes_what_is_asked(outputs: list[Output], index: int) -> None:
    combination, output = PROMPTS[index], outputs[index]
    assert output["prompt"] == combination.prompt
    for clip in (output["frames"], decoded(str(output["output_path"]))):
        verdict = judge(clip)
        assert all(verdict.matches(combination).values()), (combination.prompt, verdict)


def test_unknown_words_do_no_harm_to_an_image(generator: DiffGenerator) -> None:
    prompt = "An amazing, cinematic red circle standing quite still on a beautiful black background"
    verdict = judge(image(generator, prompt, seed=0, num_inference_steps=10))
    assert (verdict.shape, verdict.colour, verdict.background) == ("circle", "red", "black")
    assert verdict.motion is None


def test_seed_and_guidance_matter(generator: DiffGenerator) -> None:
    prompt = "a red circle moving right on a black background"

    def quick(seed: int, guidance: float) -> Any:
        how = {"seed": seed, "guidance_scale": guidance, "num_inference_steps": 4}
        return image(generator, prompt, **how).astype(int)

    assert np.array_equal(quick(0, 3.0), quick(0, 3.0))
    assert np.abs(quick(0, 3.0) - quick(1, 3.0)).mean() > 1
    assert np.abs(quick(0, 3.0) - quick(0, 1.0)).max() > 10


def test_plain_diffusers_loads_it() -> None:
    """It is a Wan model like others: nothing of ours is needed to run it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what diffusers and transformers deprecate in each other
        from diffusers import WanPipeline

        pipeline = WanPipeline.from_pretrained(DEMO_MODEL)
    pipeline.set_progress_bar_config(disable=True)
    (video,) = pipeline(
        PROMPTS[0].prompt,
        height=128,
        width=128,
        num_frames=17,
        num_inference_steps=10,
        guidance_scale=3.0,
        generator=torch.Generator().manual_seed(0),
    ).frames
    verdict = judge((video * 255).round().astype(np.uint8))
    assert all(verdict.matches(PROMPTS[0]).values()), verdict
