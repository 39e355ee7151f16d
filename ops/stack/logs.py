"""What the parts say: on our own stdout with a prefix each, and in bounded files under the home."""

from __future__ import annotations

import logging
from contextlib import suppress
from logging.handlers import RotatingFileHandler
from pathlib import Path

import click

COLOURS = ("cyan", "green", "yellow", "magenta", "blue", "bright_cyan", "bright_green")
FILE_BYTES = 8 * 2**20
LONGEST_LINE = 64 * 1024


class BoundedFile(RotatingFileHandler):
    """Two files of `FILE_BYTES` at most; a full disk costs lines, not the service."""

    def __init__(self, file: Path) -> None:
        super().__init__(file, maxBytes=FILE_BYTES, backupCount=1, delay=True)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - logging's name
        """Say nothing: there may be nowhere to say it."""


class PartLog:
    """Takes the output of one part, in pieces as they come, and passes it on in whole lines."""

    def __init__(self, name: str, *, file: Path | None, width: int, colour: str) -> None:
        self._prefix = click.style(f"{name:<{width}} |", fg=colour)
        self._rest = b""
        self._file: logging.Handler = logging.NullHandler()
        if file is not None:
            self._file = BoundedFile(file)

    def feed(self, data: bytes) -> None:
        """Take more output; an empty piece ends the last line."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        if self._rest and (not data or len(self._rest) > LONGEST_LINE):
            lines.append(self._rest)
            self._rest = b""
        for line in lines:
            self.say(line.decode(errors="replace").rstrip("\r"))

    def say(self, text: str) -> None:
        """One line, ours or the part's."""
        with suppress(OSError):  # nobody reads any more, or the disk behind stdout is full
            click.echo(f"{self._prefix} {text}")  # strips colours where stdout is no terminal
        self._file.emit(logging.makeLogRecord({"msg": click.unstyle(text)}))

    def close(self) -> None:
        """End the last line and close the file."""
        self.feed(b"")
        self._file.close()


class Logs:
    """One log a part, all with prefixes of the same width."""

    def __init__(self, names: list[str], directory: Path | None = None) -> None:
        """Without a directory nothing is written to files."""
        if directory is not None:
            directory.mkdir(parents=True, exist_ok=True)
        width = max(map(len, names))
        self._logs = {
            name: PartLog(
                name,
                file=None if directory is None else directory / f"{name}.log",
                width=width,
                colour=COLOURS[index % len(COLOURS)],
            )
            for index, name in enumerate(names)
        }

    def __getitem__(self, name: str) -> PartLog:
        return self._logs[name]

    def close(self) -> None:
        """Close every file."""
        for log in self._logs.values():
            log.close()
