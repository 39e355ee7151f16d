"""ImageEncoding: input images to what the transformer takes of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from PIL.Image import Image
from typing_extensions import override

from pipeline.request import Request
from pipeline.stages.control import Steps
from pipeline.stages.stage import Stage
from pipeline.stages.state import State


@dataclass(frozen=True)
class Encoded:
    """What a family made of the input images; shapes as `State` has them."""

    latent: tuple[torch.Tensor, ...] = ()
    embeds: torch.Tensor | None = None


Encode = Callable[[Request, Sequence[Image]], Encoded]


class ImageEncoding(Stage):
    """Encodes the input images, on every rank alike; without any there is nothing to do."""

    name = "image_encoding"
    inputs = ("request", "images")
    outputs = ("image_latent", "image_embeds")

    def __init__(self, encode: Encode) -> None:
        self._encode = encode

    @override
    def run(self, state: State, steps: Steps) -> None:
        if not state.images:
            return
        steps.done(self.name, 0, 1)
        encoded = self._encode(state.request, state.images)
        state.image_latent, state.image_embeds = encoded.latent, encoded.embeds
        steps.done(self.name, 1, 1)
