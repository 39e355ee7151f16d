"""Input images: what is read of them, and what is refused. Faults in a gang: test_faults."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.limits import RequestError
from pipeline.media.picture import open_image
from tests.fixtures.asked import CARD, card

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.mark.parametrize("form", ["PNG", "WEBP", "BMP", "TIFF"])
def test_an_image_is_known_by_its_content_not_its_name(tmp_path: Path, form: str) -> None:
    file = tmp_path / "input"
    Image.fromarray(PIXELS).save(file, format=form, lossless=True)
    np.testing.assert_array_equal(np.asarray(open_image(file, CARD)), PIXELS)


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "CMYK"])
def test_any_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "input"
    Image.new("RGB", (8, 4), "red").convert(mode).save(file, format="TIFF")
    image = open_image(file, CARD)
    assert (image.mode, image.size) == ("RGB", (8, 4))


@pytest.mark.parametrize("form", ["PNG", "TIFF"])
def test_sixteen_bits_of_grey_become_eight(tmp_path: Path, form: str) -> None:
    file = tmp_path / "input"
    ramp = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(ramp * 257).save(file, format=form)
    seen = np.asarray(open_image(file, CARD))
    np.testing.assert_array_equal(seen, np.repeat(ramp[..., None], 3, axis=2))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pixels_whose_range_nobody_knows_are_refused(tmp_path: Path, mode: str) -> None:
    file = tmp_path / "input"
    Image.new(mode, (8, 4)).save(file, format="TIFF")
    with pytest.raises(RequestError, match=f"image must have 8 or 16 bits a channel, got '{mode}'"):
        open_image(file, CARD)


def test_a_photograph_stands_upright(tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # turned: the first row is the right-hand side (EXIF 2.3, Orientation)
    Image.fromarray(PIXELS).save(file, exif=exif)
    assert open_image(file, CARD).size == (20, 30)


def test_the_bound_itself_is_allowed_and_no_pixel_more(tmp_path: Path) -> None:
    file = tmp_path / "input.png"
    Image.fromarray(PIXELS).save(file)
    assert open_image(file, card(max_image_pixels=600)).size == (30, 20)
    with pytest.raises(RequestError, match="image may have at most 599 pixels, got '30x20'"):
        open_image(file, card(max_image_pixels=599))


def test_a_format_beyond_the_known_ones_is_not_even_tried(tmp_path: Path) -> None:
    file = tmp_path / "input.eps"
    Image.fromarray(PIXELS).save(file, format="EPS")
    with pytest.raises(RequestError, match="image must be an image: PNG, JPEG"):
        open_image(file, CARD)


def test_whatever_a_broken_file_does_to_pillow_it_is_refused_by_name(tmp_path: Path) -> None:
    file = tmp_path / "photo.jpg"
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a text where a number belongs, once the tag is another"
    Image.fromarray(PIXELS).save(file, exif=exif)
    file.write_bytes(file.read_bytes().replace(b"\x01\x0e\x00\x02", b"\x01\x55\x00\x02"))
    with pytest.raises(
        RequestError, match="image cannot be read: required argument is not a float"
    ) as refused:
        open_image(file, CARD)
    assert file.name not in str(refused.value), (
        "in a job's folder the name is ours, not the client's"
    )
