"""DiffGenerator with input images, on one gang of a model that takes one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline import DiffGenerator
from pipeline.limits import RequestError
from pipeline.media.given import write_inputs
from tests.fixtures.asked import card

PIXELS = np.random.default_rng(0).integers(0, 256, (64, 96, 3), np.uint8)


@pytest.fixture(scope="module")
def generator(tiny_families: Path) -> Iterator[DiffGenerator]:
    with DiffGenerator.from_pretrained(
        tiny_families / "wan_ti2v", num_gpus=1, device="cpu"
    ) as generator:
        yield generator


def made(generator: DiffGenerator, **params: Any) -> Any:
    outputs: Any = generator.generate(
        "a fox", seed=1, num_inference_steps=2, save_output=False, return_frames=True, **params
    )
    return outputs


def test_a_path_an_image_and_an_array_are_the_same(
    generator: DiffGenerator, tmp_path: Path
) -> None:
    file = tmp_path / "fox at dawn.png"
    Image.fromarray(PIXELS).save(file)
    outputs = [made(generator, image=image) for image in (file, Image.open(file), PIXELS)]
    for output in outputs[1:]:
        np.testing.assert_array_equal(output["frames"], outputs[0]["frames"])
    assert not np.array_equal(made(generator)["frames"], outputs[0]["frames"])


def test_every_output_starts_from_the_image(generator: DiffGenerator) -> None:
    one = made(generator, image=PIXELS)
    two = made(generator, image=PIXELS, num_outputs=2)
    np.testing.assert_array_equal(two[0]["frames"], one["frames"])
    assert [output["seed"] for output in two] == [1, 2]


@pytest.mark.parametrize(
    ("image", "words"),
    [
        ("nowhere.png", "image cannot be read: No such file or directory, got 'nowhere.png'"),
        (3.5, "image must be a path, a PIL image or uint8"),
        (Image.new("CMYK", (64, 64)), "image must be of a mode that PNG has, as RGB, got 'a PIL"),
        ([PIXELS, PIXELS], "image may be given at most 1 times with wan_ti2v, got 2"),
    ],
)
def test_what_is_no_image_is_refused_before_anything_runs(
    generator: DiffGenerator, image: Any, words: str
) -> None:
    with pytest.raises(RequestError, match=words):
        made(generator, image=image)


def test_a_size_that_the_model_does_not_take_is_refused_as_it_was_given(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"^image must be at least 8x8, got 'ndarray: 96x4'$"):
        write_inputs([PIXELS, PIXELS[:4]], tmp_path / "inputs", card(min_image_side=8))


def test_a_file_that_cannot_be_read_is_refused_by_name_before_anything_runs(
    generator: DiffGenerator, tmp_path: Path
) -> None:
    text, cut_short, heard = tmp_path / "fox.png", tmp_path / "cut.png", list[Any]()
    text.write_text("a fox")
    Image.fromarray(PIXELS).save(cut_short)
    cut_short.write_bytes(cut_short.read_bytes()[:2000])
    for file, words in ((text, "must be an image: PNG, JPEG"), (cut_short, "cannot be read: ")):
        with pytest.raises(RequestError, match=f"^image {words}.*, got '{str(file)[:40]}"):
            made(generator, image=file, num_outputs=2, on_progress=lambda *news: heard.append(news))
    assert heard == []
    made(generator, image=PIXELS)
