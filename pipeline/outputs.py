"""Where finished files of a `generate` call go."""

from __future__ import annotations

import itertools
import re
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from pipeline.limits import RequestError
from pipeline.request import ImageFormat, Request

IMAGE_FORMATS: dict[str, ImageFormat] = {
    ".png": "png",
    ".jpg": "jpeg",
    ".jpeg": "jpeg",
    ".webp": "webp",
}
"""By the suffix of a file."""

_OF_FILE = re.compile(r"\.[a-z][a-z0-9]{2,4}")
"""A suffix that somebody means a file by, whether one of ours or not."""


def in_format_of(output_path: str | Path, request: Request) -> Request:
    """The request for an image of the format that `output_path` ends in, where it ends in one."""
    kind = IMAGE_FORMATS.get(Path(output_path).suffix.lower())
    if kind is None or not request.makes_image:
        return request
    return request.model_copy(update={"output_format": kind})


def check_ending(output_path: str | Path) -> None:
    """Refuse a file of a kind that is never written, whatever the model makes.

    Raises:
        RequestError: naming the endings that are.
    """
    target = Path(output_path).expanduser()
    suffix = target.suffix.lower()
    known = (".mp4", *IMAGE_FORMATS)
    if suffix in known or not _OF_FILE.fullmatch(suffix) or target.is_dir():
        return
    raise RequestError(
        "output_path",
        str(target),
        f"must end in one of {', '.join(known)} or be a folder, which with such an ending has to be "
        "there already",
    )


def plan_paths(output_path: str | Path, requests: Sequence[Request]) -> list[Path]:
    """One path a request, in order, no two alike.

    `output_path` with a file's suffix is the file itself, numbered if there are several, and written
    over; anything else, and a directory that is there, is a directory, and the files in it are named
    after prompt and seed, numbered so that none takes the place of another, of an earlier call either.

    Raises:
        RequestError: a suffix that does not fit what is generated.
    """
    check_ending(output_path)
    target = Path(output_path).expanduser()
    suffix = target.suffix.lower()
    if target.is_dir() or not _OF_FILE.fullmatch(suffix):
        paths: list[Path] = []
        for request in requests:
            paths.append(_free(target, request, paths))
        return paths
    for request in requests:
        if suffix != request.suffix and (suffix, request.suffix) != (".jpeg", ".jpg"):
            raise RequestError(
                "output_path", str(target), f"must end in {request.suffix} or be a folder"
            )
    if len(requests) == 1:
        return [target]
    return [
        target.with_name(f"{target.stem}-{number}{target.suffix}")
        for number in range(1, len(requests) + 1)
    ]


def _free(folder: Path, request: Request, taken: Sequence[Path]) -> Path:
    """A file in the folder that is neither taken nor there."""
    name = f"{_slug(request.prompt)}-{request.seed}"
    for number in itertools.count(1):
        path = folder / f"{name}{f'-{number}' * (number > 1)}{request.suffix}"
        if path not in taken and not path.exists():
            break
    return path


def make_folders(folders: Iterable[Path]) -> None:
    """Make each folder and try to write there, before an hour's work is to go into it.

    Raises:
        RequestError: one cannot be made or written.
    """
    for folder in set(folders):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                pass
        except OSError as error:
            raise RequestError(
                "output_path", str(folder), f"cannot be written: {error.strerror}"
            ) from None


def _slug(prompt: str) -> str:
    """The prompt's first words, safe in a file name."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:48].strip("-") or "output"
