"""What is counted as keys and values: all that is made of them, by whomever it is kept, while it lives."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch

from ops.bench.holding import Holding
from pipeline.parallel.ulysses import Attend

ONE = 2 * 6 * 4 * 8 * 4
"""Bytes of a key or a value."""


def held(attend: Attend, *, hoard: bool = False) -> float:
    """The most that was held in `attend`, in keys."""
    processor = SimpleNamespace(attend=attend)
    holding = Holding()
    holding.watch(processor)
    qkv = [torch.ones(2, 6, 4, 8) for _ in range(3)]
    hoarded = list(qkv) if hoard else []
    with torch.no_grad(), holding:
        processor.attend(qkv)
    del hoarded
    return holding.key_value_bytes / ONE


def nothing(qkv: list[torch.Tensor]) -> torch.Tensor:
    return qkv[0]


def copy(qkv: list[torch.Tensor]) -> torch.Tensor:
    copied = [heads.clone() for heads in qkv]
    return copied[0]


def move(qkv: list[torch.Tensor]) -> torch.Tensor:
    """One at a time: the next copy is made when the first is all that is left."""
    query, *rest = qkv
    qkv.clear()
    while rest:
        rest.pop(0).transpose(1, 2).contiguous()
    return query


def message(qkv: list[torch.Tensor]) -> torch.Tensor:
    """One of all three, out of which the value is copied; and the sum, which is derived."""
    stacked = torch.stack(qkv, dim=2)
    qkv.clear()
    value = stacked.unbind(2)[2].contiguous()
    query = stacked.unbind(2)[0].contiguous()
    return query + value


def halves(qkv: list[torch.Tensor]) -> torch.Tensor:
    qkv.append(qkv[1].to(torch.bfloat16))
    return qkv[0]


def derived(qkv: list[torch.Tensor]) -> torch.Tensor:
    """An operator that is not known: counted whole."""
    qkv.append(qkv[0] * qkv[2])
    return qkv[0]


def attended(qkv: list[torch.Tensor]) -> torch.Tensor:
    """Outputs of attention are neither keys nor values."""
    query, key, value = (heads.transpose(1, 2) for heads in qkv)
    output = torch.nn.functional.scaled_dot_product_attention(query, key, value)
    return output * 2


@pytest.mark.parametrize(
    ("attend", "keys"),
    [
        (nothing, 2),
        (copy, 4),
        (move, 3),
        (message, 4),
        (halves, 2.5),
        (derived, 3),
        (attended, 2),
    ],
)
def test_copies_count_as_long_as_they_live(
    attend: Callable[[list[torch.Tensor]], torch.Tensor], keys: float
) -> None:
    assert held(attend) == keys


def test_what_the_caller_keeps_counts() -> None:
    assert held(message, hoard=True) == held(message) + 2
