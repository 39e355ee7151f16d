"""How a rank that cannot compute on lets the others come to the next meeting.

It takes part, with zeros, in whatever they exchange with it until then. Each of them waits for its
peers only in exchanges that stand in its ledger, so this ends when all have finished their step. Two
ranks that have both failed exchange nothing with each other: neither waits.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.distributed as dist
from torch._C._distributed_c10d import _resolve_process_group
from torch.distributed import ProcessGroup

from pipeline.parallel import collectives
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
        self._device = device
        own = ledger.book(ledger.rank)
        self._blind = own.unseen
        self._done = Counter(line.group for line in own.lines)
        self._groups: dict[str, ProcessGroup] = {}
        self._waits: list[Callable[[], object]] = []

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
        for wait in self._waits:
            wait()

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
        match like.kind:
            case "all_to_all":
                rows = self._zeros(like, (sum(sent), *like.shape))
                under_way = collectives.start_all_to_all(rows, received, sent, group)
            case "all_reduce":
                under_way = collectives.start_all_reduce(self._zeros(like, like.shape), group)
            case "all_gather":
                under_way = collectives.start_all_gather(self._zeros(like, like.shape), group)
            case "shift":
                self._pass_on(like, sent, received, group)
                return
        self._waits.append(partial(collectives.arrived, under_way))

    def _pass_on(
        self, like: Line, sent: Sequence[int], received: Sequence[int], group: ProcessGroup
    ) -> None:
        operations = [
            dist.P2POp(act, self._zeros(like, (rows,)), group=group, group_peer=peer)
            for act, by_peer in ((dist.isend, sent), (dist.irecv, received))
            for peer, rows in enumerate(by_peer)
            if rows
        ]
        if operations:
            self._waits += [work.wait for work in dist.batch_isend_irecv(operations)]

    def _zeros(self, like: Line, shape: Sequence[int]) -> torch.Tensor:
        return torch.zeros(*shape, dtype=getattr(torch, like.dtype), device=self._device)


def _line(book: Book, group: str, number: int) -> Line | None:
    lines = [line for line in book.lines if line.group == group]
    return lines[number] if number < len(lines) else None
