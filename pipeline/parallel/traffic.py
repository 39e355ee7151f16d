"""What this rank sends to others, counted as it happens.

Counted at torch's dispatcher, below everything that exchanges tensors here: our own door, sharded
weights, point to point. For measurements; a rank that serves does not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch._C._distributed_c10d import _resolve_process_group
from torch.utils._python_dispatch import TorchDispatchMode
from typing_extensions import override


class Traffic(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's is untyped
    """Within it, `sent_bytes` grows by what leaves this rank, by the kind of exchange.

    An all-reduce is counted as 2 (N - 1) / N of its tensor and an all-gather as N - 1 pieces, which
    is what a ring of N ranks sends (Patarasuk and Yuan, 2009).
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.sent_bytes: Counter[str] = Counter()

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        if name in _SENT:
            kind, count = _SENT[name]
            self.sent_bytes[kind] += int(count(args))
        return func(*args, **(kwargs or {}))


def _bytes(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _all_to_all(args: Any) -> float:
    tensor, _, sent, group = args
    away: int = sum(sent) - sent[_resolve_process_group(group).rank()]
    total: int = max(1, sum(sent))
    return _bytes(tensor) * away / total


def _all_reduce(args: Any) -> float:
    size: int = _resolve_process_group(args[2]).size()
    return 2 * (size - 1) / size * _bytes(args[0])


_SENT: dict[str, tuple[str, Callable[[Any], float]]] = {
    "_c10d_functional::all_to_all_single": ("all-to-all", _all_to_all),
    "_c10d_functional::all_reduce": ("all-reduce", _all_reduce),
    "_c10d_functional::all_gather_into_tensor": (
        "all-gather",
        lambda args: (args[1] - 1) * _bytes(args[0]),
    ),
    "c10d::_allgather_base_": (
        "weights",  # of `fully_shard`, which alone gathers this way
        lambda args: _bytes(args[0]) - _bytes(args[1]),
    ),
    "c10d::send": ("send", lambda args: sum(_bytes(tensor) for tensor in args[0])),
}
