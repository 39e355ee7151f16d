"""What a request's input images are called. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence


def names_of(images: Sequence[object]) -> tuple[str, ...]:
    """The files' names, as `Request.images` has them."""
    return tuple(f"image-{number}" for number in range(1, len(images) + 1))
