"""Attention that also returns the log-sum-exp, without which a ring's blocks cannot be merged.

Each platform names the operators of torch that may return it; the first that gives the right values
here, for the model's own head width and dtype, is used. Never emulated: that would cost the memory
that the ring is there to save.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import torch

from pipeline.parallel.ranks import Ranks

log = logging.getLogger(__name__)

AttendLse = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""Query [B, H, l, D], key and value [B, H, k, D] to output [B, H, l, D] and its log-sum-exp
[B, H, l] float32."""

_ARGUMENTS: dict[str, tuple[Any, ...]] = {
    "_scaled_dot_product_cudnn_attention": (None, True),
    "_scaled_dot_product_efficient_attention": (None, True),
}
"""What an operator wants after query, key and value to return the log-sum-exp."""


def choose(ranks: Ranks, head_width: int, dtype: torch.dtype) -> AttendLse:
    """The first of the platform's operators that is right on every rank.

    Raises:
        ValueError: none is; the ring is refused.
    """
    problems = []
    for name in ranks.platform.lse_operators:
        failures = [
            text
            for text in ranks.gather_text(problem(name, ranks.device, head_width, dtype))
            if text
        ]
        if not failures:
            log.info("ring attention by aten.%s", name)
            return operator(name)
        problems.append(f"{name}: {failures[0]}")
    raise ValueError(
        f"the ring is refused: no attention operator of {ranks.platform.kind} returns the "
        f"log-sum-exp for {dtype} heads of {head_width} ({'; '.join(problems)}); use ulysses"
    )


def operator(name: str) -> AttendLse:
    """The aten operator `name` in our form.

    Raises:
        AttributeError: this torch has none of that name.
    """
    call, more = getattr(torch.ops.aten, name), _ARGUMENTS.get(name, ())

    def attend(
        query: torch.Tensor, key: torch.Tensor, value: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        # cuDNN's is silently wrong on tensors that are not contiguous.
        output, lse = call(query.contiguous(), key, value, *more)[:2]
        # Some pad it to their block size, some keep a last dimension of one.
        lse = lse.float().reshape(*query.shape[:2], -1)[..., : query.shape[2]]
        return output, lse

    return attend


def problem(name: str, device: torch.device, head_width: int, dtype: torch.dtype) -> str:
    """Compare the operator `name` with the definition; returns what is wrong, or nothing."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (
        torch.randn(1, 2, length, head_width, generator=generator).to(device, dtype)
        for length in (37, 29, 29)
    )
    scores = (query.float() @ key.float().transpose(2, 3)) * head_width**-0.5
    try:
        output, lse = operator(name)(query, key, value)
        off = (output.float() - scores.softmax(-1) @ value.float()).abs().max()
        off_lse = (lse - scores.logsumexp(-1)).abs().max()
    except (RuntimeError, AttributeError, TypeError) as error:
        return str(error).strip().partition("\n")[0]
    return "" if max(float(off), float(off_lse)) < 0.05 else "wrong values"
