"""What goes wrong in a request is told by name, and the gang runs the next one."""

from __future__ import annotations

import string
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from PIL import Image

from pipeline.gang.gang import Gang
from pipeline.gang.protocol import Done, Failed, News, Progress, Run, RunItem
from pipeline.limits import ModelCard
from pipeline.options import EngineOptions
from pipeline.request import INPUTS, Params, Request, resolve
from tests.pipeline.poison import poisoned

START_S = 180.0
POISON = "~"
"""What makes the served model compute NaN: its embedding is."""
TOKEN = 4 + string.printable.index(POISON)
"""Its place in the tiny vocabulary, after four special tokens."""


class Served:
    """A gang of two ranks on a model that takes an image."""

    def __init__(self, gang: Gang, card: ModelCard, folder: Path) -> None:
        self.gang = gang
        self.card = card
        self.folder = folder

    def request(self, *images: str) -> Request:
        params = Params(prompt="a fox", seed=1, num_frames=5, num_inference_steps=2)
        return resolve(params, self.card, images)

    def run(
        self,
        request: Request,
        write: Callable[[Path], None] | None = None,
        on_news: Callable[[News], None] = lambda _: None,
    ) -> Done | Failed:
        """Run it; `write` makes its input image."""
        directory = self.folder / uuid4().hex
        (directory / INPUTS).mkdir(parents=True)
        if write is not None:
            write(directory / INPUTS / "fox.png")
        item = RunItem(request=request, file="video.mp4")
        run = Run(run_id=uuid4().hex, directory=str(directory), items=(item,))
        return self.gang.run(run, on_news)

    def check_it_lives(self) -> None:
        assert self.gang.alive
        assert isinstance(self.run(self.request("fox.png"), picture), Done)


@pytest.fixture(scope="module")
def served(tiny_families: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("gang")
    model = poisoned(
        tiny_families / "wan_ti2v", folder / "model", "text_encoder/model", "shared.weight", TOKEN
    )
    gang = Gang(EngineOptions(model_path=str(model), device="cpu"), num_gpus=2, directory=folder)
    runs = folder / "runs"
    yield Served(gang, gang.start(START_S).card, runs)
    gang.stop(10)


def picture(file: Path) -> None:
    Image.new("RGB", (80, 60), "red").save(file)


def cut_short(file: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    Image.fromarray(pixels).save(file)
    file.write_bytes(file.read_bytes()[:2000])


def text(file: Path) -> None:
    file.write_text("a fox")


def nothing(file: Path) -> None:
    file.touch()


def folder(file: Path) -> None:
    file.mkdir()


def header_of(width: int, height: int) -> Callable[[Path], None]:
    """A PNG that claims a size and holds no pixels: opening it must not make room for them."""

    def write(file: Path) -> None:
        header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
        data = b"IDAT" + zlib.compress(b"")
        parts = (header, data, b"IEND")
        file.write_bytes(
            b"\x89PNG\r\n\x1a\n"
            + b"".join(
                struct.pack(">I", len(part) - 4) + part + struct.pack(">I", zlib.crc32(part))
                for part in parts
            )
        )

    return write


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (None, "image cannot be read: [Errno 2] No such file or directory"),
        (text, "image must be an image: PNG, JPEG, WEBP"),
        (nothing, "image must be an image: PNG, JPEG, WEBP"),
        (folder, "image cannot be read: [Errno 21] Is a directory"),
        (cut_short, "image cannot be read: image file is truncated"),
        (header_of(8193, 8193), "image may have at most 67108864 pixels, got '8193x8193'"),
        (header_of(10_000, 10_000), "image may have at most 67108864 pixels"),
        (header_of(2**30, 2**30), "image may have at most 67108864 pixels"),
    ],
    ids=["missing", "text", "empty", "folder", "cut short", "large", "huge", "bomb"],
)
def test_an_image_that_cannot_be_used_is_refused_by_name(
    served: Served, write: Callable[[Path], None] | None, words: str
) -> None:
    answer = served.run(served.request("fox.png"), write)
    assert isinstance(answer, Failed)
    assert (answer.code, answer.fatal) == ("invalid_request", False)
    assert words in answer.message
    assert "/" not in answer.message
    served.check_it_lives()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 10**9}, "width must be from 32 to 128, got 1000000000"),
        ({"height": -32}, "height must be from 32 to 128, got -32"),
        ({"num_frames": 10**9 + 1}, "num_frames must be from 1 to 33"),
        ({"num_frames": 0}, "num_frames must be from 1 to 33, got 0"),
        ({"num_inference_steps": 10**6}, "num_inference_steps must be from 1 to 500"),
        ({"prompt": "x" * 10**6}, "prompt must have at most 4000 characters"),
        ({"guidance_scale": 1e9}, "guidance_scale must be from 0 to 20"),
    ],
)
def test_absurd_numbers_are_refused_in_the_ranks_too(
    served: Served, changes: dict[str, Any], words: str
) -> None:
    answer = served.run(served.request().model_copy(update=changes))
    assert isinstance(answer, Failed)
    assert (answer.code, answer.fatal) == ("invalid_request", False)
    assert words in answer.message
    served.check_it_lives()


def test_nan_is_told_and_no_video_of_it_kept(served: Served) -> None:
    changes = {"prompt": f"a fox {POISON}", "num_inference_steps": 4}
    request = served.request().model_copy(update=changes)
    kept = set(served.folder.rglob("video.mp4*"))
    for _ in range(2):
        heard: list[News] = []
        answer = served.run(request, on_news=heard.append)
        assert isinstance(answer, Failed)
        assert (answer.code, answer.fatal) == ("not_finite", False)
        assert answer.message.startswith("the latent is not finite after step 1: ")
        denoised = [one.step for one in heard if isinstance(one, Progress)]
        assert max(denoised) == 1  # and not the other ones of the request's four
    assert set(served.folder.rglob("video.mp4*")) == kept
    served.check_it_lives()
