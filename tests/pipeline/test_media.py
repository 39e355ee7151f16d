from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.media.frames import keep_frames
from pipeline.media.image import write_image
from pipeline.media.output import OutputError
from pipeline.media.previews import Previews
from pipeline.media.video import write_video
from pipeline.request import ImageFormat
from tests.pipeline.engines import little_room

Frames = NDArray[np.uint8]

COLOURS = [(230, 26, 26), (26, 191, 51), (38, 77, 242), (255, 255, 255), (8, 8, 8)]


def plain(count: int, colour: tuple[int, int, int]) -> Frames:
    return np.full((count, 48, 64, 3), colour, np.uint8)


def noise(count: int) -> Frames:
    return np.random.default_rng(0).integers(0, 256, (count, 48, 64, 3), np.uint8)


def read(file: Path) -> tuple[list[Frames], float]:
    with av.open(file) as container:
        stream = container.streams.video[0]
        assert stream.average_rate is not None
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return frames, float(stream.average_rate)  # type: ignore[return-value]


def test_a_video_reads_back_with_its_frames_size_and_rate(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    chunks = [plain(1, COLOURS[0]), plain(4, COLOURS[1]), plain(3, COLOURS[2])]
    write_video(file, iter(chunks), width=64, height=48, fps=12)
    frames, fps = read(file)
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 8
    assert fps == 12
    for frame, colour in zip(
        frames, [COLOURS[0], *[COLOURS[1]] * 4, *[COLOURS[2]] * 3], strict=True
    ):
        # 8 bits of luma and chroma, then lossy coding.
        assert np.abs(frame.astype(int) - colour).max() <= 8


def test_a_video_is_what_browsers_play_at_once(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    write_video(file, [noise(3)], width=64, height=48, fps=24)
    content = file.read_bytes()
    assert 0 < content.index(b"moov") < content.index(b"mdat")
    with av.open(file) as container:
        context = container.streams.video[0].codec_context
        assert (context.name, context.pix_fmt) == ("h264", "yuv420p")
        # 1 is BT.709 in each of these tables (ITU-T H.273), and 1 the limited range.
        colours = (context.colorspace, context.color_primaries, context.color_trc)
        assert (*colours, context.color_range) == (1, 1, 1, 1)


DIGEST = """
import hashlib, sys
from pathlib import Path
import numpy as np
from pipeline.media.video import write_video

file, width = Path(sys.argv[1]), int(sys.argv[2])
blocks = np.random.default_rng(0).integers(0, 256, (9, 8, width // 8, 3))
frames = np.kron(blocks, np.ones((1, 8, 8, 1))).astype(np.uint8)
write_video(file, [frames], width=width, height=64, fps=8)
print(hashlib.sha256(file.read_bytes()).hexdigest())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="MALLOC_PERTURB_ is glibc's")
@pytest.mark.parametrize("width", [64, 832])
def test_the_same_frames_are_the_same_bytes_whatever_lay_in_memory(
    tmp_path: Path, width: int
) -> None:
    command = [sys.executable, "-c", DIGEST, str(tmp_path / "clip.mp4"), str(width)]
    digests = {
        subprocess.run(
            command, env={**os.environ, "MALLOC_PERTURB_": fill}, check=True, capture_output=True
        ).stdout
        for fill in ("0", "85", "7")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("colour", COLOURS)
def test_colours_survive(tmp_path: Path, colour: tuple[int, int, int]) -> None:
    file = tmp_path / "clip.mp4"
    write_video(file, [plain(2, colour)], width=64, height=48, fps=8)
    for frame in read(file)[0]:
        assert np.abs(frame.astype(int) - colour).max() <= 4


def test_an_image_reads_back_exactly(tmp_path: Path) -> None:
    file = tmp_path / "picture.png"
    frame = noise(1)[0]
    write_image(file, frame)
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        np.testing.assert_array_equal(np.asarray(picture), frame)


@pytest.mark.parametrize("kind", ["jpeg", "webp"])
def test_an_image_in_a_lossy_format_looks_the_same(tmp_path: Path, kind: ImageFormat) -> None:
    file = tmp_path / "picture"
    frame = plain(1, COLOURS[0])[0]
    frame[:, :32] = COLOURS[2]
    assert write_image(file, frame, kind) == f"image/{kind}"
    with Image.open(file) as picture:
        assert picture.format == kind.upper()
        read_back = np.asarray(picture.convert("RGB")).astype(int)
    # Away from the edge, where lossy coding rings.
    assert np.abs(read_back - frame)[:, [*range(24), *range(40, 64)]].max() <= 6


@pytest.mark.parametrize(
    ("frames", "sprites", "grid"), [(2, 2, (2, 1)), (9, 9, (3, 3)), (81, 16, (4, 4))]
)
def test_previews_show_the_middle_and_the_way_through(
    tmp_path: Path, frames: int, sprites: int, grid: tuple[int, int]
) -> None:
    video = np.zeros((frames, 96, 640, 3), np.uint8)
    video += np.linspace(0, 255, frames).astype(np.uint8)[:, None, None, None]
    previews = Previews(frames)
    passed = list(previews.watch(np.split(video, [1])))
    np.testing.assert_array_equal(np.concatenate(passed), video)

    thumbnail, sheet = previews.write(tmp_path / "clip.mp4")
    assert (thumbnail.kind, thumbnail.file) == ("thumbnail", "clip-thumbnail.webp")
    assert (thumbnail.content_type, thumbnail.width, thumbnail.height) == ("image/webp", 512, 77)
    with Image.open(tmp_path / thumbnail.file) as image:
        assert image.size == (512, 77)
        shown = np.asarray(image.convert("RGB")).astype(int)
    assert np.abs(shown - video[frames // 2, 0, 0]).max() <= 4

    assert (sheet.kind, sheet.file) == ("spritesheet", "clip-spritesheet.jpg")
    assert (sheet.width, sheet.height) == (grid[0] * 240, grid[1] * 36)
    assert sheet.size_bytes == (tmp_path / sheet.file).stat().st_size
    with Image.open(tmp_path / sheet.file) as image:
        tiles = np.asarray(image).astype(int).reshape(grid[1], 36, grid[0], 240, 3)
    means = tiles.mean(axis=(1, 3, 4)).flatten()[:sprites]
    assert np.abs(means - np.linspace(0, 255, sprites)).max() <= 8
    assert list(means) == sorted(means)


def test_frames_are_kept_as_they_pass(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4.npy"
    frames = noise(9)
    passed = list(keep_frames(file, np.split(frames, [1, 5]), frames.shape))
    np.testing.assert_array_equal(np.concatenate(passed), frames)
    np.testing.assert_array_equal(np.load(file), frames)


def video_to(file: Path) -> None:
    write_video(file, [noise(30)], width=64, height=48, fps=8)


def image_to(file: Path) -> None:
    write_image(file, noise(1)[0])


def frames_to(file: Path) -> None:
    list(keep_frames(file, [noise(30)], (30, 48, 64, 3)))


WRITERS = pytest.mark.parametrize("write", [video_to, image_to, frames_to])


@WRITERS
def test_a_full_disk_is_an_output_error_and_leaves_nothing(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    file = tmp_path / "output"
    with (
        little_room(1000),
        pytest.raises(OutputError, match=f"cannot write {file.name}: File too large"),
    ):
        write(file)
    assert list(tmp_path.iterdir()) == []


@WRITERS
def test_a_missing_folder_is_an_output_error(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with pytest.raises(OutputError, match="No such file or directory"):
        write(tmp_path / "missing" / "output")


class DecoderBroke(Exception):
    pass


def broken() -> Iterator[Frames]:
    yield noise(1)
    raise DecoderBroke


def test_what_fails_before_writing_keeps_its_name_and_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(DecoderBroke):
        write_video(tmp_path / "clip.mp4", broken(), width=64, height=48, fps=8)
    with pytest.raises(DecoderBroke):
        list(keep_frames(tmp_path / "clip.npy", broken(), (2, 48, 64, 3)))
    assert list(tmp_path.iterdir()) == []


def test_an_operating_system_error_of_the_frames_is_no_output_error(tmp_path: Path) -> None:
    def gone() -> Iterator[Frames]:
        yield noise(1)
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        write_video(tmp_path / "clip.mp4", gone(), width=64, height=48, fps=8)
