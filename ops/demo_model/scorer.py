"""Says what a clip shows, from its pixels alone: the judge of the demo model.

It finds the background along the border, takes as shape whatever differs from it, names the
shape's colour by the nearest of the palette, its form by laying each form over it, and its motion
by where it goes and how it grows. Whatever is unclear is None, which never counts as right.

Letters in names: F frames, H height, W width; lengths are fractions of the frame's height.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ops.demo_model.world import BACKGROUNDS, COLOURS, SHAPES, Combination, Rgb

Array = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

FOREGROUND: Final = 0.22
"""RGB distance from the background above which a pixel is shape; white on pink has 0.38."""

COLOUR_LIMIT: Final = 0.25
"""A colour farther than this from all of the palette has no name."""

FIT_LIMIT: Final = 0.8
"""Least overlap (intersection over union) with a form for the shape to be called that."""

SMALLEST: Final = 0.002
"""Share of the frame below which nothing is there; the smallest circle drawn has 0.012."""

MOVED: Final = 0.12
STOOD: Final = 0.06
"""Way of the centre beyond which a shape moves, and below which it stands."""

GREW: Final = 1.4
KEPT: Final = 1.2
"""Ratio of radii, last to first, beyond which a shape grows, and below which it keeps its size."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a clip shows; None where it cannot be said. One frame has no motion."""

    shape: str | None
    colour: str | None
    background: str | None
    motion: str | None
    fit: float
    """Mean overlap of the shape with the form it is called, 0..1."""

    def matches(self, asked: Combination) -> dict[str, bool]:
        """Field by field, whether the clip shows what was asked."""
        fields = ("shape", "colour", "background", "motion")
        return {field: getattr(self, field) == getattr(asked, field) for field in fields}


def judge(frames: npt.NDArray[np.uint8]) -> Verdict:
    """What the clip `frames`, uint8 [F, H, W, 3], shows."""
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8:
        raise ValueError(f"frames must be uint8 [F, H, W, 3], not {frames.dtype} {frames.shape}")
    clip: Array = frames.astype(np.float64) / 255
    ground = np.median(_border(clip), axis=0)
    background = _nearest(ground, BACKGROUNDS)
    masks: Mask = np.linalg.norm(clip - ground, axis=-1) > FOREGROUND
    shares = masks.mean(axis=(1, 2))
    if shares.min() < SMALLEST or shares.max() > 0.6:
        return Verdict(None, None, background, None, 0.0)
    core = np.concatenate([frame[_core(mask)] for frame, mask in zip(clip, masks, strict=True)])
    colour = _nearest(np.median(core, axis=0), COLOURS) if len(core) else None
    fits = {shape: float(np.mean([_fit(mask, shape) for mask in masks])) for shape in SHAPES}
    shape = max(fits, key=lambda name: fits[name])
    return Verdict(
        shape=shape if fits[shape] >= FIT_LIMIT else None,
        colour=colour,
        background=background,
        motion=_motion(masks, shares) if len(frames) > 1 else None,
        fit=fits[shape],
    )


def _border(clip: Array) -> Array:
    """The outermost two pixels of every frame, [N, 3]."""
    edges = (clip[:, :2], clip[:, -2:], clip[:, :, :2], clip[:, :, -2:])
    return np.concatenate([edge.reshape(-1, 3) for edge in edges])


def _nearest(colour: Array, palette: Mapping[str, Rgb]) -> str | None:
    distance = {name: float(np.linalg.norm(colour - np.array(palette[name]))) for name in palette}
    name = min(distance, key=lambda each: distance[each])
    return name if distance[name] <= COLOUR_LIMIT else None


def _core(mask: Mask) -> Mask:
    """The mask without its edge, whose pixels are mixed with the background."""
    inner = mask.copy()
    for axis in (0, 1):
        for shift in (-2, 2):
            inner &= np.roll(mask, shift, axis)
    return inner


def _centre(mask: Mask) -> tuple[float, float]:
    """Centre of mass (x, y) in pixels."""
    ys, xs = np.nonzero(mask)
    return float(xs.mean()), float(ys.mean())


def _fit(mask: Mask, shape: str) -> float:
    """Overlap of the mask with the form of the same centre and area."""
    x, y = _centre(mask)
    area = float(mask.sum())
    dy, dx = np.indices(mask.shape, dtype=np.float64) - np.array([y, x])[:, None, None]
    if shape == "circle":
        form = dx**2 + dy**2 <= area / np.pi
    elif shape == "square":
        form = np.maximum(np.abs(dx), np.abs(dy)) <= area**0.5 / 2
    else:
        inner_radius = (area / (3 * 3**0.5)) ** 0.5
        form = np.maximum(dy, np.abs(dx) * 3**0.5 / 2 - dy / 2) <= inner_radius
    return float((mask & form).sum() / (mask | form).sum())


def _motion(masks: Mask, shares: Array) -> str | None:
    """The motion between the first and the last tenth of the clip, if it is one of the world's."""
    ends = max(1, len(masks) // 10)
    height = masks.shape[1]
    track = np.array([_centre(mask) for mask in masks]) / height
    way_x, way_y = track[-ends:].mean(axis=0) - track[:ends].mean(axis=0)
    growth = float((shares[-ends:].mean() / shares[:ends].mean()) ** 0.5)
    along, across = max(abs(way_x), abs(way_y)), min(abs(way_x), abs(way_y))
    if along < STOOD:
        if growth > GREW:
            return "growing"
        if growth < 1 / GREW:
            return "shrinking"
        # A shape that leaves and returns does not stand.
        still = 1 / KEPT < growth < KEPT and float(np.ptp(track, axis=0).max()) < 2 * STOOD
        return "standing still" if still else None
    if along < MOVED or across > along / 2 or not 1 / GREW < growth < GREW:
        return None
    if abs(way_x) > abs(way_y):
        return "moving right" if way_x > 0 else "moving left"
    return "moving down" if way_y > 0 else "moving up"
