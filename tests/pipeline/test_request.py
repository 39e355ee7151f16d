import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from pipeline.limits import RequestError
from pipeline.request import MAX_SEED, Params, Request, check, parse, resolve
from tests.fixtures.asked import card

CARD = card(name="demo", height=96, max_num_inference_steps=50)


def ask(**fields: Any) -> Request:
    return resolve(parse(Params, {"prompt": "a red circle", **fields}), CARD)


def test_omitted_fields_are_the_cards_defaults() -> None:
    request = ask()
    assert (request.width, request.height, request.num_frames, request.fps) == (128, 96, 17, 8)
    assert (request.num_inference_steps, request.guidance_scale) == (20, 3.0)
    assert (request.model, request.workload, request.size) == ("demo", "t2v", "128x96")
    assert request.seconds == pytest.approx(17 / 8)


def test_a_missing_seed_is_drawn_and_a_given_one_kept() -> None:
    assert ask().seed != ask().seed
    assert ask(seed=0).seed == 0


def test_multipart_sends_numbers_as_strings() -> None:
    request = ask(size="64x32", num_frames="9", guidance_scale="1.5", seed="7")
    assert (request.width, request.height, request.num_frames) == (64, 32, 9)
    assert (request.guidance_scale, request.seed) == (1.5, 7)


@pytest.mark.parametrize(
    ("seconds", "fps", "frames"), [("2", 8, 17), (1, 8, 9), (1.2, 8, 9), (0.1, 8, 1), (4, 8, 33)]
)
def test_frames_from_seconds(seconds: float | str, fps: int, frames: int) -> None:
    assert ask(seconds=seconds, fps=fps).num_frames == frames


def test_one_frame_is_an_image() -> None:
    assert ask(num_frames=1).workload == "t2i"


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"prompt": ""}, "prompt", "must not be empty"),
        ({"prompt": "  "}, "prompt", "must not be empty"),
        ({"prompt": 3}, "prompt", "string"),
        ({"prompt": "x" * 4001}, "prompt", "at most 4000 characters, got 4001"),
        ({"negative_prompt": "x" * 4001}, "negative_prompt", "at most 4000"),
        ({"colour": "red"}, "colour", "is unknown; known fields: fidelity"),
        ({"seed": True}, "seed", "not a boolean"),
        ({"seed": -1}, "seed", "greater than or equal to 0"),
        ({"seed": "x"}, "seed", "integer"),
        ({"guidance_scale": float("nan")}, "guidance_scale", "finite"),
        ({"guidance_scale": 21}, "guidance_scale", "from 0 to 20, got 21"),
        ({"size": "128"}, "size", "WIDTHxHEIGHT"),
        ({"size": "-16x16"}, "size", "WIDTHxHEIGHT"),
        ({"size": "9999999x16"}, "size", "at most 256x256"),
        ({"size": "128x128", "width": 128}, "size", "beside"),
        ({"size": "100x128"}, "size", "a multiple of 16 in width, got '100x128'"),
        ({"size": "128x272"}, "size", "from 16 to 256 in height, got '128x272'"),
        ({"width": 100}, "width", "multiple of 16, got 100"),
        ({"height": 272}, "height", "from 16 to 256, got 272"),
        ({"num_frames": 10}, "num_frames", "4k+1, such as 9 or 13, got 10"),
        ({"num_frames": 37}, "num_frames", "from 1 to 33, got 37"),
        ({"seconds": 4, "num_frames": 17}, "seconds", "beside"),
        ({"seconds": 5}, "seconds", "at most 4.125 at 8 fps, got 5.0"),
        ({"seconds": 1e300}, "seconds", "at most 4.125"),
        ({"seconds": 0}, "seconds", "greater than 0"),
        ({"fps": 0}, "fps", "from 1 to 60, got 0"),
        ({"fps": 61, "seconds": 1}, "fps", "from 1 to 60"),
        ({"num_inference_steps": 51}, "num_inference_steps", "from 1 to 50, got 51"),
        ({"guidance_scale_2": 2}, "guidance_scale_2", "two experts; demo has one, got 2.0"),
        ({"num_outputs": 0}, "num_outputs", "from 1 to 4, got 0"),
        ({"num_outputs": 5}, "num_outputs", "from 1 to 4, got 5"),
        ({"num_outputs": 2, "seed": MAX_SEED}, "seed", "must be from 0 to"),
        ({"output_format": "webp"}, "output_format", "is for images; a video is always MP4"),
        ({"output_format": "gif", "num_frames": 1}, "output_format", "'png', 'jpeg' or 'webp'"),
        ({"fidelity": "fast"}, "fidelity", "'exact', 'lossless' or 'bounded'"),
    ],
)
def test_a_bad_value_is_refused_with_field_value_and_limit(
    fields: dict[str, Any], field: str, words: str
) -> None:
    with pytest.raises(RequestError, match=re.escape(words)) as caught:
        ask(**fields)
    assert caught.value.field == field


def test_outputs_are_requests_whose_seeds_count_up() -> None:
    request = ask(num_outputs=3, seed=7)
    assert [one.seed for one in request.outputs()] == [7, 8, 9]
    assert {one.num_outputs for one in request.outputs()} == {1}
    assert request.outputs()[0] == ask(seed=7)


@pytest.mark.parametrize(
    ("frames", "images", "workload"),
    [(9, (), "t2v"), (1, (), "t2i"), (9, ("a.png",), "i2v"), (1, ("a.png", "b.png"), "i2i")],
)
def test_images_and_frames_make_the_workload(
    frames: int, images: tuple[str, ...], workload: str
) -> None:
    card = CARD.model_copy(update={"workloads": ("t2v", "t2i", "i2v", "i2i"), "max_images": 2})
    request = resolve(Params(prompt="a", num_frames=frames), card, images)
    assert (request.workload, request.images) == (workload, images)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ((), "image is required: demo serves i2v"),
        (("a", "b"), "image may be given at most 1 times with demo, got 2"),
    ],
)
def test_images_that_the_model_needs_or_cannot_take(images: tuple[str, ...], words: str) -> None:
    card = CARD.model_copy(update={"workloads": ("i2v",), "max_images": 1})
    with pytest.raises(RequestError, match=re.escape(words)):
        resolve(Params(prompt="a"), card, images)


@pytest.mark.parametrize("name", ["", "../a", "a/b", ".a", "a" * 101, "a\n"])
def test_an_image_name_that_is_no_safe_file_name_is_refused(name: str) -> None:
    with pytest.raises(ValidationError):
        Request.model_validate({**ask().model_dump(), "images": [name]})


def test_two_experts_have_a_scale_each() -> None:
    card = CARD.model_copy(update={"guidance_scale_2": 5.0})
    request = resolve(Params(prompt="a"), card)
    assert (request.guidance_scale_2, request.strongest_guidance) == (5.0, 5.0)


@pytest.mark.parametrize(
    ("fields", "suffix"),
    [
        ({}, ".mp4"),
        ({"num_frames": 1}, ".png"),
        ({"num_frames": 1, "output_format": "jpeg"}, ".jpg"),
        ({"num_frames": 1, "output_format": "webp"}, ".webp"),
    ],
)
def test_a_file_is_named_after_its_format(fields: dict[str, Any], suffix: str) -> None:
    assert ask(**fields).suffix == suffix


def test_the_prompt_is_required() -> None:
    with pytest.raises(RequestError, match="prompt is required"):
        parse(Params, {})


def test_a_workload_that_the_model_does_not_serve_is_refused() -> None:
    images = CARD.model_copy(update={"workloads": ("t2i",)})
    with pytest.raises(RequestError, match="serves t2i"):
        resolve(Params(prompt="a"), images)


@given(
    st.fixed_dictionaries(
        {"prompt": st.text()},
        optional={
            "size": st.text() | st.from_regex(r"\A[0-9]{1,4}x[0-9]{1,4}\Z"),
            "width": st.integers() | st.text(),
            "seconds": st.floats() | st.text(),
            "num_frames": st.integers(-1, 40),
            "fps": st.integers(-1, 70),
            "seed": st.integers() | st.floats() | st.none(),
            "guidance_scale": st.floats() | st.booleans(),
        },
    )
)
def test_whatever_comes_is_refused_by_name_or_within_the_limits(data: dict[str, Any]) -> None:
    try:
        request = resolve(parse(Params, data), CARD)
    except RequestError:
        return
    check(request, CARD)


def test_a_value_of_another_kind_is_refused_in_a_sentence_that_begins_with_its_field() -> None:
    with pytest.raises(RequestError, match=r"^prompt should be a valid string, got 5$"):
        parse(Params, {"prompt": 5})
