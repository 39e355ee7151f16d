"""Which operator computes attention: chosen by name, tried on the device before a model is loaded."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from diffusers.models.attention_dispatch import (
    AttentionBackendName,
    attention_backend,
    dispatch_attention_fn,
)
from diffusers.utils import logging as diffusers_logging

from pipeline.layout import Layout
from pipeline.platforms import Platform

_ALIASES = {"sdpa": "native", "fa2": "flash", "fa3": "_flash_3", "fa4": "flash_4_hub"}
"""The guide's words -> diffusers' names."""

_CLOSE = 0.1
"""How far a quantised operator (sage) may be from torch's own on normal numbers."""


@dataclass(frozen=True)
class Attention:
    """The operator of one engine; None leaves it as diffusers has it."""

    backend: AttentionBackendName | None = None

    def in_use(self) -> AbstractContextManager[None]:
        """Within it diffusers' models attend with this operator."""
        return nullcontext() if self.backend is None else attention_backend(self.backend)


def choose(
    asked: str | None, platform: Platform, device: torch.device, layout: Layout | None = None
) -> Attention:
    """Find the operator `asked` for (None and `auto`: the device's own) and try it.

    Raises:
        ValueError: no such operator, or one that this device or layout cannot serve; the message
            names what serves instead.
    """
    if asked is None or asked == "auto":
        return Attention()
    try:
        backend = AttentionBackendName(_ALIASES.get(asked, asked))
    except ValueError:
        known = ", ".join(["auto", *_ALIASES, *(name.value for name in AttentionBackendName)])
        raise ValueError(f"attention_backend {asked} is not known; these are: {known}") from None
    if backend is AttentionBackendName.NATIVE:
        return Attention(backend)
    why = platform.attention_problem(backend.value, device)
    if not why and layout is not None and layout.ring > 1:
        why = "a ring merges its blocks by the operator of its own device"
    if not why:
        why = _failure(backend, platform, device)
    if why:
        raise ValueError(f"attention_backend {asked} cannot serve here: {why}; use sdpa instead")
    return Attention(backend)


@torch.no_grad()
def _failure(backend: AttentionBackendName, platform: Platform, device: torch.device) -> str:
    """Why the operator does not give what torch's own gives; empty if it does."""
    draw = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, tokens, 2, 64, generator=draw).to(device, platform.default_dtype)
        for tokens in (96, 160, 160)
    )
    expected = dispatch_attention_fn(query, key, value, backend=AttentionBackendName.NATIVE)
    level = diffusers_logging.get_verbosity()
    diffusers_logging.set_verbosity_error()
    try:
        with attention_backend(backend):
            given = dispatch_attention_fn(query, key, value)
    except Exception as error:  # noqa: BLE001  # whatever a foreign kernel raises is the answer
        return str(error).strip().partition("\n")[0].rstrip(".") or type(error).__name__
    finally:
        diffusers_logging.set_verbosity(level)
    if given.shape != expected.shape:
        return f"it gives {tuple(given.shape)} for {tuple(expected.shape)}"
    far = float((given.float() - expected.float()).abs().max())
    return "" if far <= _CLOSE else f"its result is {far:.2g} away from torch's own"
