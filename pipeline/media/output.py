"""Files that appear under their name only when they are whole."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from av.error import FFmpegError


class OutputError(Exception):
    """A finished generation could not be written: no space, no folder, no permission."""


@contextmanager
def whole(file: Path) -> Iterator[Path]:
    """Give `<file>.part` to write to and rename it at the end; on failure remove it.

    Raises:
        OutputError: the system refused to rename it.
    """
    part = file.with_name(f"{file.name}.part")
    try:
        yield part
        with writing(file):
            part.replace(file)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def writing(file: Path) -> Iterator[None]:
    """Around what writes and nothing else: frames come from elsewhere and fail for other reasons.

    Raises:
        OutputError: the system refused to write.
    """
    try:
        yield
    except (OSError, FFmpegError) as error:
        # Its name alone: whoever asked for it may be told, but not where things lie on this machine.
        reason = error.strerror or type(error).__name__
        raise OutputError(f"cannot write {file.name}: {reason}") from error
