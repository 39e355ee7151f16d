"""gloo for tensors of a device that it cannot reach: they pass through CPU memory on the way.

A fallback for hosts whose own backend does not work, asked for by TORCH_DISTRIBUTED_BACKEND=gloo.
It is a process group like any other, so that functional collectives, point to point, sharded weights
and meshes need to know nothing of it. Every exchange costs two copies and waits for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

STAGED = "gloo_staged"
"""The backend's name for torch.distributed, once `register` was called."""

_Copies = list[tuple[torch.Tensor, torch.Tensor]]


def register() -> None:
    """Make the backend known to torch.distributed; twice is nothing."""
    if STAGED.upper() not in dist.Backend._plugins:
        dist.Backend.register_backend(STAGED, _create, devices=["cpu", "cuda", "xpu"])


def _create(
    store: Store, rank: int, size: int, timeout: timedelta = timedelta(minutes=30)
) -> StagedGroup:
    return StagedGroup(dist.ProcessGroupGloo(store, rank, size, timeout=timeout), rank, size)


class _Exchange(dist.Work):
    """gloo's work, and the copies back to the device that follow it."""

    def __init__(self, work: dist.Work, back: _Copies) -> None:
        super().__init__()
        self._work = work
        self._back = back

    def wait(self, timeout: timedelta = timedelta(0)) -> bool:
        """Wait for gloo, then copy once."""
        done = self._work.wait(timeout) if timeout else self._work.wait()
        for there, here in self._back:
            there.copy_(here)
        self._back = []
        return done


# torch's stubs give its methods overloads for callers, which no subclass needs.
_ProcessGroup: Any = dist.ProcessGroup


class StagedGroup(_ProcessGroup):  # type: ignore[misc]
    """Each method is gloo's of that name, on copies in CPU memory.

    torch calls some by two names: the older until 2.12, the newer since.
    """

    def __init__(self, gloo: Any, rank: int, size: int) -> None:
        super().__init__(rank, size)
        self._gloo = gloo
        self._name = ""

    def _set_group_name(self, name: str) -> None:
        # torch would keep it in the group's backends, of which this one has none.
        self._name = name

    @property
    def group_name(self) -> str:
        """The name by which functional collectives find the group."""
        return self._name

    def getBackendName(self) -> str:  # noqa: N802  # torch asks for this name
        """The name that it was registered under."""
        return STAGED

    def allreduce(self, tensors: Sequence[torch.Tensor], opts: Any = None) -> _Exchange:
        """Reduce in place."""
        return self._in_place(self._gloo.allreduce, tensors, *_given(opts))

    def allreduce_coalesced(self, tensors: Sequence[torch.Tensor], opts: Any = None) -> _Exchange:
        """Reduce several in place."""
        return self._in_place(self._gloo.allreduce_coalesced, tensors, *_given(opts))

    def broadcast(self, tensors: Sequence[torch.Tensor], opts: Any = None) -> _Exchange:
        """Give the root's."""
        return self._in_place(self._gloo.broadcast, tensors, *_given(opts))

    def allgather(
        self,
        outputs: Sequence[Sequence[torch.Tensor]],
        inputs: Sequence[torch.Tensor],
        opts: Any = None,
    ) -> _Exchange:
        """Gather tensors into lists."""
        here = [[_room(tensor) for tensor in tensors] for tensors in outputs]
        work = self._gloo.allgather(here, [_down(tensor) for tensor in inputs], *_given(opts))
        pairs = zip(outputs, here, strict=True)
        return _Exchange(work, [pair for one in pairs for pair in zip(*one, strict=True)])

    def all_gather_single(
        self, output: torch.Tensor, tensor: torch.Tensor, opts: Any = None
    ) -> _Exchange:
        """Gather into one tensor."""
        return self._one(self._gloo._allgather_base, output, tensor, *_given(opts))

    def all_gather_single_coalesced(
        self, outputs: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], opts: Any = None
    ) -> _Exchange:
        """Gather into one tensor, several times."""
        return self._each(self.all_gather_single, outputs, inputs, opts)

    def reduce_scatter(
        self,
        outputs: Sequence[torch.Tensor],
        inputs: Sequence[Sequence[torch.Tensor]],
        opts: Any = None,
    ) -> _Exchange:
        """Reduce lists and keep this rank's."""
        return self._from_lists(self._gloo.reduce_scatter, outputs, inputs, *_given(opts))

    def reduce_scatter_single(
        self, output: torch.Tensor, tensor: torch.Tensor, opts: Any = None
    ) -> _Exchange:
        """Reduce one tensor and keep this rank's part."""
        return self._one(self._gloo._reduce_scatter_base, output, tensor, *_given(opts))

    def reduce_scatter_single_coalesced(
        self, outputs: Sequence[torch.Tensor], inputs: Sequence[torch.Tensor], opts: Any = None
    ) -> _Exchange:
        """Reduce one tensor and keep this rank's part, several times."""
        return self._each(self.reduce_scatter_single, outputs, inputs, opts)

    def all_to_all_single(
        self,
        output: torch.Tensor,
        tensor: torch.Tensor,
        received: Sequence[int],
        sent: Sequence[int],
        opts: Any = None,
    ) -> _Exchange:
        """Send each rank its rows."""
        rows = (list(received), list(sent))
        return self._one(self._gloo.alltoall_base, output, tensor, *rows, *_given(opts))

    def scatter(
        self,
        outputs: Sequence[torch.Tensor],
        inputs: Sequence[Sequence[torch.Tensor]],
        opts: Any = None,
    ) -> _Exchange:
        """Give each rank one of the root's."""
        return self._from_lists(self._gloo.scatter, outputs, inputs, *_given(opts))

    def send(self, tensors: Sequence[torch.Tensor], to: int, tag: int) -> _Exchange:
        """Send to a rank."""
        return _Exchange(self._gloo.send([_down(tensor) for tensor in tensors], to, tag), [])

    def recv(self, tensors: Sequence[torch.Tensor], source: int, tag: int) -> _Exchange:
        """Receive from a rank."""
        here = [_room(tensor) for tensor in tensors]
        work = self._gloo.recv(here, source, tag)
        return _Exchange(work, list(zip(tensors, here, strict=True)))

    def barrier(self, opts: Any = None) -> dist.Work:
        """Wait for every rank."""
        work: dist.Work = self._gloo.barrier(*_given(opts))
        return work

    _allgather_base = all_gather_single
    allgather_into_tensor_coalesced = all_gather_single_coalesced
    _reduce_scatter_base = reduce_scatter_single
    reduce_scatter_tensor_coalesced = reduce_scatter_single_coalesced
    alltoall_base = all_to_all_single

    def _in_place(
        self, call: Callable[..., dist.Work], tensors: Sequence[torch.Tensor], *opts: Any
    ) -> _Exchange:
        here = [_down(tensor) for tensor in tensors]
        return _Exchange(call(here, *opts), list(zip(tensors, here, strict=True)))

    def _one(
        self, call: Callable[..., dist.Work], output: torch.Tensor, tensor: torch.Tensor, *rest: Any
    ) -> _Exchange:
        here = _room(output)
        return _Exchange(call(here, _down(tensor), *rest), [(output, here)])

    def _from_lists(
        self,
        call: Callable[..., dist.Work],
        outputs: Sequence[torch.Tensor],
        inputs: Sequence[Sequence[torch.Tensor]],
        *opts: Any,
    ) -> _Exchange:
        here = [_room(tensor) for tensor in outputs]
        there = [[_down(tensor) for tensor in tensors] for tensors in inputs]
        return _Exchange(call(here, there, *opts), list(zip(outputs, here, strict=True)))

    def _each(
        self,
        call: Callable[..., _Exchange],
        outputs: Sequence[torch.Tensor],
        inputs: Sequence[torch.Tensor],
        opts: Any,
    ) -> _Exchange:
        works = [call(*pair, opts) for pair in zip(outputs, inputs, strict=True)]
        for work in works[:-1]:
            work.wait()
        return works[-1]


def _given(opts: Any) -> tuple[Any, ...]:
    return () if opts is None else (opts,)


def _down(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in CPU memory."""
    return tensor.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)


def _room(tensor: torch.Tensor) -> torch.Tensor:
    """Room for a tensor in CPU memory."""
    return torch.empty(tensor.shape, dtype=tensor.dtype)
