"""What this rank holds of keys, values and weights, measured as storages come and go.

For measurements, at torch's dispatcher. Keys and values are marked where attention is handed them, and
the marks follow into whatever is made of them: copies, messages, blocks that come. A storage counts as
long as it lives, whoever keeps it. Memory that operators and backends take within one call is not
seen.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map_only
from typing_extensions import override

_MOVES = {"aten::stack", "aten::cat", "aten::clone", "aten::_to_copy"}
"""Operators that say by themselves where a marked element goes."""

_PATIENCE_S = 2.0


class Holding(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's is untyped
    """Within it, the peaks rise to the most that was held at once."""

    def __init__(self, models: Iterable[nn.Module] = ()) -> None:
        """Measure the weights of `models`, which stand as they are between two forwards."""
        super().__init__()  # type: ignore[no-untyped-call]
        self.key_value_bytes = 0
        """The most of keys and values in a self-attention `watch`ed."""
        self._marks: dict[int, _Mark] = {}
        self._watched = False
        self._exchanged = False
        own = {_key(weight): weight for model in models for weight in _weights(model)}
        self.kept_weight_bytes = sum(weight.untyped_storage().nbytes() for weight in own.values())
        """The weights on this rank between two forwards."""
        self.weight_bytes = self.kept_weight_bytes
        """The most of weights: these, and what is gathered for a block from other ranks."""
        self._gathered: dict[int, Reference] = {}

    def watch(self, processor: Any) -> None:
        """Measure what an attention processor hands to its `attend`."""
        attend = processor.attend

        def watched(qkv: list[torch.Tensor]) -> torch.Tensor:
            self._mark_all(qkv[1:])
            self._watched = True
            output: torch.Tensor = attend(qkv)
            self._watched = False
            return output

        processor.attend = watched

    @override
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        outputs = func(*args, **kwargs)
        name = func._schema.name
        self._exchanged |= self._watched and name.startswith(("c10d", "_c10d"))
        if self._watched and not ("scaled_dot_product" in name and "attention" in name):
            self._follow(func, name, args, kwargs, outputs)
            self._note_keys_and_values()
        if name == "c10d::_allgather_base_":  # of `fully_shard`, which alone gathers this way
            self._note_weights([args[0]])
        elif name == "fsdp::split_with_sizes_copy":
            self._note_weights(kwargs["out"])
        return outputs

    def _follow(self, func: Any, name: str, args: Any, kwargs: Any, outputs: Any) -> None:
        """Mark what was made of marked elements."""
        given = [thing for thing in tree_iter((args, kwargs)) if isinstance(thing, torch.Tensor)]
        if not any(_key(tensor) in self._marks for tensor in given):
            return
        for output in tree_iter(outputs):
            if not isinstance(output, torch.Tensor) or _key(output) in self._marks:
                continue  # a view
            if name in _MOVES:
                shadows = tree_map_only(torch.Tensor, self._shadow, (args, kwargs))
                elements = func(*shadows[0], **shadows[1]).bool()
            elif name == "_c10d_functional::all_to_all_single":  # other ranks' rows are as our own
                elements = self._shadow(args[0])[:1].expand(output.shape)
            else:
                elements = torch.ones(output.shape, dtype=torch.bool)
            self._mark(output, elements)

    def _mark_all(self, keys_and_values: list[torch.Tensor]) -> None:
        for heads in keys_and_values:
            self._mark(heads, torch.ones(heads.shape, dtype=torch.bool))
        self._note_keys_and_values()

    def _shadow(self, tensor: torch.Tensor) -> torch.Tensor:
        """Which elements of it are marked."""
        mark = self._marks.get(_key(tensor))
        if mark is None:
            return torch.zeros(tensor.shape, dtype=torch.bool)
        return mark.elements.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())

    def _mark(self, tensor: torch.Tensor, elements: torch.Tensor) -> None:
        if _key(tensor) not in self._marks:
            self._marks[_key(tensor)] = _Mark(tensor)
        self._marks[_key(tensor)].add(tensor, elements)

    def _note_keys_and_values(self) -> None:
        held = self._marked_bytes()
        # gloo's threads let go of a tensor a moment after its arrival.
        deadline = time.monotonic() + _PATIENCE_S
        while self._exchanged and held > self.key_value_bytes and time.monotonic() < deadline:
            time.sleep(0.005)
            held = self._marked_bytes()
        self.key_value_bytes = max(self.key_value_bytes, held)

    def _marked_bytes(self) -> int:
        self._marks = {key: mark for key, mark in self._marks.items() if mark.reference.size()}
        return sum(mark.bytes for mark in self._marks.values())

    def _note_weights(self, gathered: Iterable[torch.Tensor]) -> None:
        for tensor in gathered:
            self._gathered[_key(tensor)] = Reference(tensor)
        # Unsharded weights keep their storage, and it its memory only while they are in use.
        held = sum(reference.size() for reference in self._gathered.values())
        self.weight_bytes = max(self.weight_bytes, self.kept_weight_bytes + held)


class Reference:
    """A tensor's storage, which may go."""

    def __init__(self, tensor: torch.Tensor) -> None:
        # A weak reference of Python's may end with its object, before the storage does.
        self._pointer: Any = tensor.untyped_storage()._weak_ref()

    def size(self) -> int:
        """Bytes that it has now."""
        storage = torch.UntypedStorage._new_with_weak_ptr(self._pointer)
        return 0 if storage is None else storage.nbytes()

    def __del__(self) -> None:
        torch.UntypedStorage._free_weak_ref(self._pointer)  # type: ignore[no-untyped-call]


class _Mark:
    """The marked elements of one storage."""

    def __init__(self, tensor: torch.Tensor) -> None:
        size = tensor.untyped_storage().nbytes() // tensor.element_size()
        self.reference = Reference(tensor)
        self.elements = torch.zeros(size, dtype=torch.bool)
        self.bytes = 0

    def add(self, tensor: torch.Tensor, marked: torch.Tensor) -> None:
        """Mark elements of `tensor`, which lies in this storage."""
        place = (tensor.shape, tensor.stride(), tensor.storage_offset())
        self.elements.as_strided(*place).logical_or_(marked)
        self.bytes = int(self.elements.sum()) * tensor.element_size()


def _key(tensor: torch.Tensor) -> int:
    """That of the tensor's storage. Not given to another one as long as a weak reference is held."""
    return int(tensor.untyped_storage()._cdata)


def _weights(model: nn.Module) -> Iterator[torch.Tensor]:
    """What lies on this rank."""
    for weight in model.parameters():
        yield weight.to_local() if hasattr(weight, "to_local") else weight
