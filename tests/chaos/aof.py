"""The whole history of every job, out of Redis's append-only file: nothing is missed between two looks.

Redis writes down what each script did, one MULTI a script, and with `aof-timestamp-enabled` when. With no
rewrite the file holds every change of every job since the server's first start, over any number of kills.
https://valkey.io/topics/persistence/
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

OPTIONS = ("--aof-timestamp-enabled", "yes", "--auto-aof-rewrite-percentage", "0")
"""What the server must run with."""


@dataclass(frozen=True)
class Change:
    """What one script (or one plain command) did to one job."""

    at: float
    """Unix seconds, whole ones."""
    job_id: str
    before: Mapping[str, str]
    after: Mapping[str, str]

    @property
    def states(self) -> tuple[str, str]:
        """From which state to which; empty: there was no such job."""
        return self.before.get("state", ""), self.after.get("state", "")

    def rise(self, field: str) -> int:
        """By how much a counter of the record went up."""
        return int(self.after.get(field) or 0) - int(self.before.get(field) or 0)


def changes(directory: Path, prefix: str) -> Iterator[Change]:
    """Every change of every job under the key prefix, in order."""
    jobs: dict[str, dict[str, str]] = {}
    head = f"{prefix}job:"
    for at, commands in _transactions(directory):
        before: dict[str, dict[str, str]] = {}
        for name, *args in commands:
            for key in args if name.upper() == "DEL" else args[:1]:
                if key.startswith(head):
                    job_id = key.removeprefix(head)
                    before.setdefault(job_id, dict(jobs.get(job_id, {})))
                    _apply(jobs, job_id, name.upper(), args[1:])
        for job_id, was in before.items():
            yield Change(at, job_id, was, dict(jobs.get(job_id, {})))


def _apply(jobs: dict[str, dict[str, str]], job_id: str, name: str, args: list[str]) -> None:
    record = jobs.setdefault(job_id, {})
    if name in {"HSET", "HMSET"}:
        record.update(zip(args[::2], args[1::2], strict=True))
    elif name == "HINCRBY":
        record[args[0]] = str(int(record.get(args[0], 0)) + int(args[1]))
    elif name == "HDEL":
        for field in args:
            record.pop(field, None)
    elif name in {"DEL", "UNLINK"}:
        del jobs[job_id]
    else:
        raise LookupError(f"{name} on a job: teach it to tests/chaos/aof.py")


def _transactions(directory: Path) -> Iterator[tuple[float, list[list[str]]]]:
    """The commands that took effect together, and when."""
    together: list[list[str]] | None = None
    for at, command in _commands(directory):
        match command[0].upper():
            case "SELECT":
                pass
            case "MULTI":
                together = []
            case "EXEC":
                yield at, together or []
                together = None
            case _ if together is not None:
                together.append(command)
            case _:
                yield at, [command]


def _commands(directory: Path) -> Iterator[tuple[float, list[str]]]:
    at = 0.0
    for path in _files(directory):
        with path.open("rb") as file:
            while line := file.readline():
                if line.startswith(b"#TS:"):
                    at = float(line[4:])
                elif line.startswith(b"*"):
                    command = []
                    for _ in range(int(line[1:])):
                        length = int(file.readline()[1:])
                        command.append(file.read(length + 2)[:-2].decode(errors="replace"))
                    yield at, command


def _files(directory: Path) -> list[Path]:
    """The incremental files by the manifest.

    Raises:
        LookupError: a rewrite has put the first part of the history into a later base.
    """
    folder = directory / "appendonlydir"
    (manifest,) = folder.glob("*.manifest")
    entries = [line.split() for line in manifest.read_text().splitlines()]
    named = [dict(zip(entry[::2], entry[1::2], strict=True)) for entry in entries]
    if any(entry["type"] == "b" and entry["seq"] != "1" for entry in named):
        raise LookupError(f"{manifest}: it was rewritten, so the history is cut off")
    return [folder / entry["file"] for entry in named if entry["type"] == "i"]
