"""A value that is read anew at most every `hold_s`, by one reader at a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Held(Generic[T]):
    """What `read` said last; while one caller reads anew, the others keep the old answer.

    Otherwise every request of a busy process would go and ask at the moment an answer has run out. The
    first reading is waited for by everybody.

    Args:
        hold_s: how long an answer holds.
    """

    def __init__(
        self, read: Callable[[], T], *, hold_s: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._read = read
        self._hold_s = hold_s
        self._clock = clock
        self._held: tuple[float, T] | None = None

    def __call__(self) -> T:
        """The value. Raises what `read` raises, to the caller who read."""
        now, held = self._clock(), self._held
        if held is None:
            value = self._read()
        elif now - held[0] < self._hold_s:
            return held[1]
        else:
            self._held = now, held[1]  # the others need not read as well
            try:
                value = self._read()
            except BaseException:
                self._held = held
                raise
        self._held = self._clock(), value
        return value
