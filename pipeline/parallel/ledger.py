"""What each rank has exchanged since the ranks last met, where the others can read it.

A rank that runs out of memory within a step leaves the others waiting for it in a collective. From
their ledgers it learns what they wait for and takes part (`following`), so that all come to the next
meeting and the gang lives. The ranks of a gang are on one host: a ledger is shared memory, and a line
in it costs some microseconds.
"""

from __future__ import annotations

import json
import mmap
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch.distributed import ProcessGroup

Kind = Literal["all_to_all", "all_reduce", "all_gather", "shift"]

_NUMBER = struct.Struct("<q")
_ARRIVED, _LEFT, _FAILING, _UNSEEN, _COUNT = (_NUMBER.size * place for place in range(5))
_HEAD_BYTES = 64
_LINE_BYTES = 512
_LINES = 4096
"""Of one interval between two meetings, which is a step."""


@dataclass(frozen=True)
class Line:
    """One exchange."""

    kind: Kind
    group: str
    """torch's name for it."""
    dtype: str
    shape: tuple[int, ...]
    """Of the tensor that each rank gives; of one row, where rows go to some ranks."""
    sent: tuple[int, ...] = ()
    """Rows to each rank of the group."""
    received: tuple[int, ...] = ()
    """Rows from each."""


@dataclass(frozen=True)
class Book:
    """One rank's ledger as it stands."""

    arrived: bool
    """It waits at the next meeting, and exchanges nothing more before it."""
    failing: bool
    """It will say there that it failed."""
    unseen: bool
    """It may have exchanged what is not written here."""
    lines: tuple[Line, ...]


_NOTHING = Book(arrived=False, failing=False, unseen=False, lines=())


class Ledger:
    """This rank's ledger, and the way to the others'."""

    def __init__(self, path: Path, rank: int, world_size: int) -> None:
        """Make the file `path`-rank; those of the others must be there when they are first read.

        Raises:
            OSError: there is no room for it.
        """
        self.rank = rank
        self.others = tuple(other for other in range(world_size) if other != rank)
        self._path = path
        self._maps: dict[int, mmap.mmap] = {}
        # Written whole: where a full disk had no room for a page later on, the rank would die of SIGBUS.
        self._file(rank).write_bytes(bytes(_HEAD_BYTES + _LINES * _LINE_BYTES))
        self._own = self._map(rank)

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """What passes between ranks within is written here."""
        token = _IN_USE.set(self)
        try:
            yield
        finally:
            _IN_USE.reset(token)

    def arrive(self) -> None:
        """This rank comes to a meeting."""
        self._write(_ARRIVED, self._read(self._own, _LEFT) + 1)

    def leave(self) -> None:
        """The meeting is over: a new page."""
        self._write(_COUNT, 0)
        self._write(_UNSEEN, 0)
        self._write(_LEFT, self._read(self._own, _ARRIVED))

    def fail(self) -> None:
        """This rank computes no more until the next meeting."""
        self._write(_FAILING, self._read(self._own, _LEFT) + 1)

    def lose_sight(self) -> None:
        """From now until the next meeting not all exchanges are written here."""
        self._write(_UNSEEN, 1)

    def add(self, line: Line) -> None:
        """Write it down: it is under way."""
        count = self._read(self._own, _COUNT)
        text = json.dumps(tuple(vars(line).values())).encode()
        if count == _LINES or len(text) > _LINE_BYTES:
            self.lose_sight()
            return
        start = _HEAD_BYTES + count * _LINE_BYTES
        self._own[start : start + _LINE_BYTES] = text.ljust(_LINE_BYTES)
        self._write(_COUNT, count + 1)  # last: who reads sees whole lines

    def book(self, rank: int) -> Book:
        """A rank's ledger; empty as long as that rank is still on its way out of the last meeting."""
        ledger = self._map(rank)
        meeting = self._read(self._own, _LEFT)
        if self._read(ledger, _LEFT) != meeting:
            return _NOTHING
        # The flags first: what they say is true of the lines that are read after them.
        arrived = self._read(ledger, _ARRIVED) > meeting
        failing = self._read(ledger, _FAILING) > meeting
        lines = tuple(self._line(ledger, number) for number in range(self._read(ledger, _COUNT)))
        return Book(arrived, failing, bool(self._read(ledger, _UNSEEN)), lines)

    def _file(self, rank: int) -> Path:
        return self._path.with_name(f"{self._path.name}-{rank}")

    def _map(self, rank: int) -> mmap.mmap:
        if rank not in self._maps:
            with self._file(rank).open("r+b") as file:
                self._maps[rank] = mmap.mmap(file.fileno(), 0)
        return self._maps[rank]

    def _write(self, place: int, number: int) -> None:
        _NUMBER.pack_into(self._own, place, number)

    @staticmethod
    def _read(ledger: mmap.mmap, place: int) -> int:
        number: int = _NUMBER.unpack_from(ledger, place)[0]
        return number

    @staticmethod
    def _line(ledger: mmap.mmap, number: int) -> Line:
        start = _HEAD_BYTES + number * _LINE_BYTES
        kind, group, dtype, *numbers = json.loads(ledger[start : start + _LINE_BYTES])
        return Line(kind, group, dtype, *map(tuple, numbers))


_IN_USE: ContextVar[Ledger | None] = ContextVar("ledger", default=None)


def note(
    kind: Kind,
    group: ProcessGroup,
    tensor: torch.Tensor,
    *,
    shape: Sequence[int],
    sent: Sequence[int] = (),
    received: Sequence[int] = (),
) -> None:
    """Write down, in the ledger in use, an exchange of tensors like `tensor` that is under way.

    A compiled graph would not write at each run: `lose_sight` there.
    """
    if torch.compiler.is_compiling():
        return
    ledger = _IN_USE.get()
    if ledger is not None:
        dtype = str(tensor.dtype).removeprefix("torch.")
        ledger.add(Line(kind, group.group_name, dtype, tuple(shape), tuple(sent), tuple(received)))


def lose_sight(*_: object) -> None:
    """A module hook: what follows is exchanged by others' code, out of sight of the ledger in use."""
    ledger = _IN_USE.get()
    if ledger is not None:
        ledger.lose_sight()
