"""Live previews: colours learned from a decoder, files written as often as is wanted."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.request import Request
from pipeline.stages.decoding import Together
from pipeline.stages.live import Colours, Live
from pipeline.stages.state import State
from tests.jobs import making

GREY = np.full((4, 6, 3), 128, np.uint8)


def state(latent: torch.Tensor) -> State:
    request: Request = making.request()
    made = State(request, inputs=Path("nowhere"))
    made.latent = latent
    return made


@pytest.mark.parametrize("shape", [(1, 5, 3, 4, 6), (1, 5, 4, 6)], ids=["video", "image"])
def test_colours_are_those_that_the_decoder_gives(shape: tuple[int, ...]) -> None:
    mixed = torch.randn(5, 3, generator=torch.Generator().manual_seed(1)) / 4
    decoded = []

    def decode(seen: State) -> Iterator[torch.Tensor]:
        latent = seen.latent if seen.latent.dim() == 5 else seen.latent[:, :, None]
        decoded.append(latent.shape)
        pixels = torch.einsum("bcfhw,ck->bkfhw", latent, mixed) + 0.1
        yield pixels.repeat_interleave(8, 3).repeat_interleave(8, 4)

    latent = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    colours, made = Colours(decode), state(latent + 0.75 * noise)
    for _ in range(2):
        picture = colours.paint(made, noise, 0.75)
    middle = latent[0] if latent.dim() == 4 else latent[0, :, 1]
    wanted = (torch.einsum("chw,ck->hwk", middle, mixed) + 0.1) / 2 + 0.5
    assert picture is not None
    np.testing.assert_allclose(picture, (wanted.clamp(0, 1) * 255).numpy(), atol=2)
    assert decoded == [(1, 5, 1, 32, 32)], "once, and small"


def test_a_decoder_that_needs_every_rank_gives_none() -> None:
    latent = torch.zeros(1, 4, 3, 4, 6)
    assert Colours(lambda _: Together(iter(()))).paint(state(latent), latent, 1.0) is None


def test_a_preview_is_written_when_it_is_due_and_told_once(tmp_path: Path) -> None:
    live = Live(tmp_path / "live.webp", 3600)
    asked: list[int] = []

    def picture() -> NDArray[np.uint8]:
        asked.append(len(asked))
        return GREY

    for _ in range(3):
        live.show(picture)
    assert asked == [0]
    assert (live.take(), live.take()) == ("live.webp", None)
    with Image.open(tmp_path / "live.webp") as image:
        assert (image.format, image.size) == ("WEBP", (318, 212))


def test_one_that_cannot_be_written_harms_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    live = Live(tmp_path / "no such folder" / "live.webp", 1)
    with caplog.at_level(logging.WARNING, logger="pipeline.stages.live"):  # root's may be set
        live.show(lambda: GREY)
    assert live.take() is None
    assert "no preview" in caplog.text
