"""How a rank that cannot compute on lets the others come to the next meeting.

It takes part, with zeros, in whatever they exchange with it until then. Each of them waits for its
peers only in exchanges that stand in its ledger, so this ends when all have finished their step. Two
ranks that have both failed exchange nothing with each other: neither waits.

The others may be hundreds of exchanges ahead of their device, and this rank has hardly any memory: all
that it takes part in share their memory, for what it gets is of no use. The functional collectives
would allocate each result anew, so these are torch's other form, in place.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _resolve_process_group
from torch.distributed import ProcessGroup

from pipeline.parallel.ledger import Book, Ledger, Line

_LOOK_S = 0.002


class StepLost(Exception):
    """What the others wait for cannot be known: only a new gang helps."""


def follow(ledger: Ledger, device: torch.device) -> None:
    """Return when the others are at the next meeting, or fail as this rank does.

    Raises:
        StepLost: tensors were exchanged that no ledger tells of (sharded weights, compiled blocks).
    """
    ledger.fail()
    follower = _Follower(ledger, device)
    while not follower.look():
        time.sleep(_LOOK_S)
    follower.finish()


class _Follower:
    def __init__(self, ledger: Ledger, device: torch.device) -> None:
        self._ledger = ledger
        self._zeros = _Memory(device)
        self._received = _Memory(device)
        own = ledger.book(ledger.rank)
        self._blind = own.unseen
        self._done = Counter(line.group for line in own.lines)
        self._groups: dict[str, ProcessGroup] = {}
        self._under_way: list[dist.Work] = []

    def look(self) -> bool:
        """Start every exchange for which the others are ready. True: there is nothing more to do."""
        books = {rank: self._ledger.book(rank) for rank in self._ledger.others}
        if self._blind or any(book.unseen for book in books.values()):
            raise StepLost("not all that ranks exchange here can be followed")
        groups = dict.fromkeys(
            (line.group, rank) for rank, book in books.items() for line in book.lines
        )
        names = dict.fromkeys(name for name, rank in groups if rank in self._members(name))
        waiting = [name for name in names if self._is_wanted(name, books)]
        return not waiting and all(book.arrived or book.failing for book in books.values())

    def finish(self) -> None:
        """Wait until all that was started is over. Starting never waits: see two failed ranks."""
        for work in self._under_way:
            work.wait()

    def _is_wanted(self, name: str, books: Mapping[int, Book]) -> bool:
        """Whether somebody waits for this rank in the group; takes part if all of it are ready."""
        members = self._members(name)
        number = self._done[name]
        lines = [
            None if rank == self._ledger.rank else _line(books[rank], name, number)
            for rank in members
        ]
        if not any(lines):
            return False
        if all(
            line is not None or rank == self._ledger.rank or books[rank].failing
            for rank, line in zip(members, lines, strict=True)
        ):
            self._done[name] += 1
            self._take_part(self._groups[name], lines)
        return True

    def _members(self, name: str) -> list[int]:
        """The ranks of a group; none if this rank is not among them."""
        if name not in self._groups:
            try:
                self._groups[name] = _resolve_process_group(name)  # type: ignore[arg-type]
            except RuntimeError:  # only its members know it
                return []
        return dist.get_process_group_ranks(self._groups[name])

    def _take_part(self, group: ProcessGroup, lines: Sequence[Line | None]) -> None:
        like = next(line for line in lines if line is not None)
        own = group.rank()
        sent = [0 if line is None or not line.sent else line.received[own] for line in lines]
        received = [0 if line is None or not line.sent else line.sent[own] for line in lines]
        zeros = partial(self._zeros.tensor, getattr(torch, like.dtype))
        room = partial(self._received.tensor, getattr(torch, like.dtype))
        match like.kind:
            case "all_to_all":
                self._under_way += [
                    dist.all_to_all_single(
                        room(sum(received), *like.shape),
                        zeros(sum(sent), *like.shape),
                        received,
                        sent,
                        group=group,
                        async_op=True,
                    )
                ]
            case "all_reduce":
                own_part = room(*like.shape).zero_()
                self._under_way += [dist.all_reduce(own_part, group=group, async_op=True)]
            case "all_gather":
                self._under_way += [
                    dist.all_gather_into_tensor(
                        room(group.size(), *like.shape),
                        zeros(1, *like.shape),
                        group=group,
                        async_op=True,
                    )
                ]
            case "shift":
                operations = [
                    dist.P2POp(act, memory(rows), group=group, group_peer=peer)
                    for act, memory, by_peer in (
                        (dist.isend, zeros, sent),
                        (dist.irecv, room, received),
                    )
                    for peer, rows in enumerate(by_peer)
                    if rows
                ]
                self._under_way += dist.batch_isend_irecv(operations) if operations else []


class _Memory:
    """Memory that every exchange under way uses at once: for zeros to send, or for what nobody reads.

    A sum that is under way may find another's numbers there: its step is thrown away all the same.
    """

    def __init__(self, device: torch.device) -> None:
        self._bytes = torch.zeros(0, dtype=torch.uint8, device=device)

    def tensor(self, dtype: torch.dtype, *shape: int) -> torch.Tensor:
        """All of its tensors begin at the same place."""
        size = math.prod(shape) * dtype.itemsize
        if size > self._bytes.numel():
            self._bytes = self._bytes.new_zeros(size)
        return self._bytes[:size].view(dtype).view(shape)


def _line(book: Book, group: str, number: int) -> Line | None:
    lines = [line for line in book.lines if line.group == group]
    return lines[number] if number < len(lines) else None
