"""What an image is, from its first bytes."""

from __future__ import annotations

import struct
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jobs.images import HEAD_BYTES, check_image
from pipeline.limits import RequestError
from tests.fixtures.asked import CARD, card
from tests.fixtures.pictures import picture


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_takes_what_it_is_whatever_it_is_called(kind: str) -> None:
    data = picture(kind)
    image = check_image(data, "image", card(max_image_pixels=32 * 24))
    assert (image.content_type, image.data) == (f"image/{kind.lower()}", data)
    with pytest.raises(RequestError, match=r"image may have at most 767 pixels, got '32x24'"):
        check_image(data, "image", card(max_image_pixels=767))


def test_a_side_too_short_or_too_long_for_the_model_is_refused() -> None:
    data = picture("PNG")
    check_image(data, "image", card(min_image_side=24, max_image_aspect=32 / 24))
    with pytest.raises(RequestError, match=r"image must be at least 25x25, got '32x24'"):
        check_image(data, "image", card(min_image_side=25))
    with pytest.raises(RequestError, match=r"image may be at most 1\.3 times as long one way"):
        check_image(data, "image", card(max_image_aspect=1.3))


def test_a_bomb_is_refused_by_its_header() -> None:
    bomb = b"\x89PNG\r\n\x1a\n" + struct.pack(
        ">L4sLLBBBBB", 13, b"IHDR", 2**31, 2**31, 8, 2, 0, 0, 0
    )
    with pytest.raises(RequestError, match="2147483648x2147483648"):
        check_image(bomb, "image", CARD)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is an empty file"),
        (b"<svg width='1' height='1'/>", "must be a PNG, JPEG or WebP image"),
        (picture("GIF"), "must be a PNG, JPEG or WebP image"),
        (picture("BMP"), "must be a PNG, JPEG or WebP image"),
        (picture("PNG")[:20], "is broken: its png header tells no size"),
        (picture("JPEG")[:30], "is broken: its jpeg header tells no size"),
        (picture("WEBP")[:20], "is broken: its webp header tells no size"),
        (picture("PNG").replace(struct.pack(">L", 32), bytes(4)), "tells no size"),
    ],
    ids=str,
)
def test_anything_else_is_refused(data: bytes, words: str) -> None:
    with pytest.raises(RequestError, match=words) as refused:
        check_image(data, "input_reference", CARD)
    assert refused.value.field == "input_reference"


@settings(max_examples=60, deadline=None, database=None)
@given(
    st.sampled_from(["PNG", "JPEG", "WEBP"]),
    st.integers(0, 60),
    st.binary(max_size=8),
    st.integers(0, 200),
)
def test_damage_is_refused_or_passed_on_and_never_raises_else(
    kind: str, at: int, damage: bytes, kept: int
) -> None:
    data = picture(kind)
    damaged = (data[:at] + damage + data[at + len(damage) :])[:kept]
    try:
        check_image(damaged, "image", CARD)
    except RequestError:
        return


@pytest.mark.parametrize("filling", [b"\0", b"\xff\xfe\x00\x02"], ids=["nothing", "comments"])
def test_a_header_without_end_costs_little(filling: bytes) -> None:
    endless = b"\xff\xd8\xff\xe0\x00\x02" + filling * (4 * HEAD_BYTES // len(filling))
    began = time.process_time()
    with pytest.raises(RequestError, match="tells no size"):
        check_image(endless, "image", CARD)
    assert time.process_time() - began < 3, "0.2 s on a quiet machine, once for each image"
