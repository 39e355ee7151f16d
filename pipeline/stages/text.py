"""TextEncoding: prompts to embeddings."""

from __future__ import annotations

from collections.abc import Callable

import torch
from typing_extensions import override

from pipeline.parallel.cfg import Branch, Guidance
from pipeline.stages.control import Steps
from pipeline.stages.stage import Stage
from pipeline.stages.state import State

_KEPT = 16
"""Texts whose embeddings are kept: some megabytes each."""


class TextEncoding(Stage):
    """Encodes the prompts of the branches that this rank computes, and no other.

    A text that was encoded before is not encoded again, unless the request's `fidelity` is `exact`:
    the same prompt with other seeds, or the one negative prompt that everybody uses.
    """

    name = "text_encoding"
    inputs = ("request",)
    outputs = ("prompt_embeds",)

    def __init__(self, encode: Callable[[str], torch.Tensor], guidance: Guidance) -> None:
        """`encode` gives [1, tokens, width] in the transformer's dtype."""
        self._encode = encode
        self._guidance = guidance
        self._kept: dict[str, torch.Tensor] = {}

    @override
    def run(self, state: State, steps: Steps) -> None:
        steps.done(self.name, 0, 1)
        request = state.request
        texts: dict[Branch, str] = {"cond": request.prompt, "uncond": request.negative_prompt}
        branches = self._guidance.branches(request.strongest_guidance)
        state.prompt_embeds = {
            branch: self._embeds(texts[branch], anew=request.fidelity == "exact")
            for branch in branches
        }
        steps.done(self.name, 1, 1)

    def _embeds(self, text: str, *, anew: bool) -> torch.Tensor:
        embeds = None if anew else self._kept.pop(text, None)
        if embeds is None:
            embeds = self._encode(text)
        if not anew:
            self._kept[text] = embeds  # the youngest stands last
            if len(self._kept) > _KEPT:
                del self._kept[next(iter(self._kept))]
        return embeds
