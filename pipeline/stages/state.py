"""What the stages of one generation hand on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch

from pipeline.parallel.cfg import Branch
from pipeline.request import Request


@dataclass
class State:
    """One generation under way. A field has no value until the stage that declares it has run.

    Shapes: B batch (1), C latent channels, F latent frames, H and W latent height and width.
    """

    request: Request

    prompt_embeds: dict[Branch, torch.Tensor] = field(init=False)
    """Of each branch that this rank computes: [B, tokens, width], in the transformer's dtype."""
    latent: torch.Tensor = field(init=False)
    """[B, C, F, H, W] float32: noise, then what is left of it, then the clean latent."""
    timesteps: torch.Tensor = field(init=False)
    """[steps], from noise to clean."""
    frames: Iterator[torch.Tensor] = field(init=False)
    """uint8 [frames of a chunk, height, width, 3] on the CPU, decoded as they are taken; on rank 0
    the whole video, on the others nothing."""
