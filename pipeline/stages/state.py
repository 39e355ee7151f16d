"""What the stages of one generation hand on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from PIL.Image import Image

from pipeline.parallel.cfg import Branch
from pipeline.request import Request

if TYPE_CHECKING:
    from pipeline.stages.decoding import Frames
    from pipeline.stages.snapshot import Resume


@dataclass
class State:
    """One generation under way. A field has no value until the stage that declares it has run.

    Shapes: B batch (1), C latent channels, F latent frames, H and W latent height and width; a family
    of images only has no F.
    """

    request: Request
    inputs: Path
    """The folder of the request's input images."""
    resume: Resume | None = None
    """Where to go on; None: at the beginning."""

    images: tuple[Image, ...] = field(init=False)
    """RGB, in the request's order."""
    image_latent: tuple[torch.Tensor, ...] = ()
    """What denoising sees of the images: for Wan one tensor like the latent, mask channels before it
    where the model has them; for FLUX.2 one [B, C, h, w] an image. Empty without images."""
    image_embeds: torch.Tensor | None = None
    """[B, tokens, width] of an image encoder beside the text's, where the model has one."""

    prompt_embeds: dict[Branch, torch.Tensor] = field(init=False)
    """Of each branch that this rank computes: [B, tokens, width], in the transformer's dtype."""
    latent: torch.Tensor = field(init=False)
    """[B, C, F, H, W] float32: noise, then what is left of it, then the clean latent."""
    generator: torch.Generator = field(init=False)
    """What the noise was drawn from, on the CPU."""
    timesteps: torch.Tensor = field(init=False)
    """[steps], from noise to clean."""
    frames: Frames = field(init=False)
    """The whole video on rank 0, decoded as it is taken; not on the others."""
