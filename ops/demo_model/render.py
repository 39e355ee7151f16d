"""Draws batches of clips on any torch device from a few numbers a shape. No gradients.

Letters in names: B clips, S shapes a clip, F frames, H height, W width. Lengths are pixels of a
128x128 frame, x to the right and y downwards.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from ops.demo_model.world import BACKGROUNDS, COLOURS, FRAMES, MOTIONS, SHAPES, SIZE, Combination

REACH: Final = 1.38
"""How far a shape extends from its centre, in radii: the triangle's apex is the farthest."""

EDGE: Final = 1.5
"""Width in pixels of the soft edge between shape and background."""

TRAVEL: Final = (44.0, 64.0)
STEADY: Final = (13.0, 22.0)
SMALL: Final = (8.0, 12.0)
BIG: Final = (25.0, 34.0)
"""Bounds of the way travelled and of the radii, steady, small end and big end."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What a batch of clips shows; a shape with `present` 0 is not drawn."""

    shape_BS: Tensor
    colour_BS3: Tensor
    background_B3: Tensor
    centre_BSF2: Tensor
    radius_BSF: Tensor
    present_BS: Tensor


@dataclass(frozen=True, slots=True)
class Tables:
    """The world's colours and motions on one device; copying them there cannot be captured."""

    colours_C3: Tensor
    backgrounds_G3: Tensor
    ways_M2: Tensor
    growths_M: Tensor

    @property
    def device(self) -> torch.device:
        """Where scenes of these tables are drawn."""
        return self.colours_C3.device


def tables(device: torch.device) -> Tables:
    """The tables for scenes drawn on `device`."""
    ways = {"right": (1, 0), "left": (-1, 0), "up": (0, -1), "down": (0, 1)}
    growths = {"growing": 1, "shrinking": -1}
    return Tables(
        colours_C3=torch.tensor(tuple(COLOURS.values()), device=device),
        backgrounds_G3=torch.tensor(tuple(BACKGROUNDS.values()), device=device),
        ways_M2=torch.tensor([ways.get(m.split()[-1], (0, 0)) for m in MOTIONS], device=device),
        growths_M=torch.tensor([growths.get(m, 0) for m in MOTIONS], device=device),
    )


def indices(combinations: tuple[Combination, ...], device: torch.device) -> Tensor:
    """Combinations as int64 [N, 4]: the places of shape, colour, background, motion."""
    colours, backgrounds = tuple(COLOURS), tuple(BACKGROUNDS)
    rows = [
        (
            SHAPES.index(c.shape),
            colours.index(c.colour),
            backgrounds.index(c.background),
            MOTIONS.index(c.motion),
        )
        for c in combinations
    ]
    return torch.tensor(rows, device=device)


def scene_of(known: Tables, index_B4: Tensor, frames: int = FRAMES) -> Scene:
    """A random scene for each row of `indices`: place, size and speed are drawn anew."""
    shape_B, colour_B, background_B, motion_B = index_B4.unbind(1)
    moment_BF = progress(len(index_B4), frames, known.device)
    centre_BSF2, radius_BSF = tracks(known, motion_B[:, None], moment_BF)
    return Scene(
        shape_BS=shape_B[:, None],
        colour_BS3=known.colours_C3[colour_B][:, None],
        background_B3=known.backgrounds_G3[background_B],
        centre_BSF2=centre_BSF2,
        radius_BSF=radius_BSF,
        present_BS=torch.ones_like(shape_B)[:, None],
    )


def random_scene(known: Tables, batch: int, frames: int, shapes: int = 3) -> Scene:
    """Scenes to train the VAE on: up to `shapes` shapes, each colour half the time any RGB.

    With the palette's colours alone the VAE merges hues that lie close together.
    """
    device, many = known.device, (batch, shapes)

    def pick(bound: int, *size: int) -> Tensor:
        return torch.randint(bound, size, device=device)

    def chance(*size: int) -> Tensor:
        return torch.rand(*size, device=device) < 0.5

    colour_BS3 = known.colours_C3[pick(len(COLOURS), *many)]
    ground_B3 = known.backgrounds_G3[pick(len(BACKGROUNDS), batch)]
    any_colour_BS3 = torch.rand(*many, 3, device=device)
    any_ground_B3 = torch.rand(batch, 3, device=device)
    centre_BSF2, radius_BSF = tracks(
        known, pick(len(MOTIONS), *many), progress(batch, frames, device)
    )
    return Scene(
        shape_BS=pick(len(SHAPES), *many),
        colour_BS3=torch.where(chance(*many, 1), any_colour_BS3, colour_BS3),
        background_B3=torch.where(chance(batch, 1), any_ground_B3, ground_B3),
        centre_BSF2=centre_BSF2,
        radius_BSF=radius_BSF,
        present_BS=chance(*many) | (torch.arange(shapes, device=device) == 0),
    )


def progress(batch: int, frames: int, device: torch.device) -> Tensor:
    """How far each frame is into its clip, 0..1 [B, F]; a single frame is any moment of one."""
    if frames == 1:
        return torch.rand(batch, 1, device=device)
    return torch.linspace(0, 1, frames, device=device).expand(batch, frames)


def tracks(known: Tables, motion_BS: Tensor, progress_BF: Tensor) -> tuple[Tensor, Tensor]:
    """Centres [B, S, F, 2] and radii [B, S, F] of shapes that stay within the frame."""

    def between(bounds: tuple[float, float], *size: int) -> Tensor:
        low, high = bounds
        return low + (high - low) * torch.rand(*motion_BS.shape, *size, device=known.device)

    growth_BS = known.growths_M[motion_BS]
    steady_BS, small_BS, big_BS = between(STEADY), between(SMALL), between(BIG)
    first_BS = torch.where(growth_BS > 0, small_BS, torch.where(growth_BS < 0, big_BS, steady_BS))
    last_BS = torch.where(growth_BS > 0, big_BS, torch.where(growth_BS < 0, small_BS, steady_BS))
    travel_BS2 = known.ways_M2[motion_BS] * between(TRAVEL)[..., None]

    reach_BS1 = torch.maximum(first_BS, last_BS)[..., None] * REACH + 1
    low_BS2 = reach_BS1 + (-travel_BS2).clamp(min=0)
    high_BS2 = SIZE - reach_BS1 - travel_BS2.clamp(min=0)
    start_BS2 = low_BS2 + (high_BS2 - low_BS2).clamp(min=0) * between((0, 1), 2)

    progress_B1F = progress_BF[:, None]
    centre_BSF2 = start_BS2[:, :, None] + progress_B1F[..., None] * travel_BS2[:, :, None]
    radius_BSF = first_BS[..., None] + progress_B1F * (last_BS - first_BS)[..., None]
    return centre_BSF2, radius_BSF


def draw(scene: Scene, size: int = SIZE) -> tuple[Tensor, Tensor]:
    """The clips [B, 3, F, H, W] in -1..1, and how much of each pixel is shape [B, 1, F, H, W]."""
    device = scene.background_B3.device
    scale = size / SIZE
    axis = (torch.arange(size, device=device) + 0.5) / scale
    batch, shapes, frames = scene.radius_BSF.shape
    clip = scene.background_B3[:, :, None, None, None].expand(batch, 3, frames, size, size)
    covered = torch.zeros(batch, 1, frames, size, size, device=device)
    for s in range(shapes):
        x, y = scene.centre_BSF2[:, s, :, :, None, None].unbind(2)
        distance = _distance(
            scene.shape_BS[:, s, None, None, None],
            axis - x,
            axis[:, None] - y,
            scene.radius_BSF[:, s, :, None, None],
        )
        cover = (0.5 - distance * (scale / EDGE)).clamp(0, 1)[:, None]
        cover = cover * scene.present_BS[:, s, None, None, None, None]
        clip = clip + cover * (scene.colour_BS3[:, s, :, None, None, None] - clip)
        covered = torch.maximum(covered, cover)
    return clip * 2 - 1, covered


def _distance(shape: Tensor, dx: Tensor, dy: Tensor, radius: Tensor) -> Tensor:
    """Signed distance in pixels to the shape's edge, negative inside; shapes of like area."""
    circle = (dx.square() + dy.square()).sqrt() - radius
    square = torch.maximum(dx.abs(), dy.abs()) - 0.886 * radius
    triangle = torch.maximum(dy, dx.abs() * 0.8660254 - dy * 0.5) - 0.68 * radius
    return torch.where(shape == 0, circle, torch.where(shape == 1, square, triangle))
