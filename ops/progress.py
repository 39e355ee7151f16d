"""A progress bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

LINE_EVERY = 10
"""Per cent between two plain lines of the same stage."""


class Shown(Protocol):
    """Shows where the work stands: in words, and in per cent where that is known."""

    def __call__(self, words: str, percent: float = 0.0) -> None:
        """Show it."""


@contextmanager
def shown_progress() -> Iterator[Shown]:
    """On stderr, so that stdout holds the result alone."""
    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        yield _Lines(console)
        return
    columns = (
        TextColumn("{task.description:<32}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=100)

        def show(words: str, percent: float = 0.0) -> None:
            progress.update(task, description=words, completed=percent)

        yield show


class _Lines:
    """A line when the stage changes or the work has moved on a good deal."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._stage = ""
        self._percent = 0.0

    def __call__(self, words: str, percent: float = 0.0) -> None:
        stage = words.partition(":")[0]
        if stage == self._stage and percent - self._percent < LINE_EVERY:
            return
        self._stage, self._percent = stage, percent
        self._console.print(f"{percent:3.0f} %  {words}", markup=False, soft_wrap=True)
