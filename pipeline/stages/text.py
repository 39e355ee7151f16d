"""TextEncoding: prompts to embeddings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from typing_extensions import override

from pipeline.parallel.cfg import Branch, Guidance
from pipeline.stages.control import Steps
from pipeline.stages.stage import Stage
from pipeline.stages.state import State


class TextEncoding(Stage):
    """Encodes the prompts of the branches that this rank computes, and no other."""

    name = "text_encoding"
    inputs = ("request",)
    outputs = ("prompt_embeds",)

    def __init__(self, encode: Callable[[str], torch.Tensor], guidance: Guidance) -> None:
        """`encode` gives [1, tokens, width] in the transformer's dtype."""
        self._encode = encode
        self._guidance = guidance

    @override
    def run(self, state: State, steps: Steps) -> None:
        steps.done(self.name, 0, 1)
        request = state.request
        texts: dict[Branch, str] = {"cond": request.prompt, "uncond": request.negative_prompt}
        branches = self._guidance.branches(request.strongest_guidance)
        state.prompt_embeds = {branch: self._encode(texts[branch]) for branch in branches}
        steps.done(self.name, 1, 1)
