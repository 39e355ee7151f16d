"""What a checkpoint says of itself: `<name>.json` beside the tensors in `<name>.safetensors`."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from pipeline.gang.protocol import ItemResult, Run, RunItem

SCHEMA = 1


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


class Origin(_Plain):
    """Where a checkpoint was made. Only at the same origin does it lead to the same bytes."""

    model: str
    """A digest of the model's files."""
    platform: str
    layout: dict[str, int]
    dtype: str
    """The transformer's."""
    attention_backend: str
    compiled: bool
    """By torch.compile or IPEX, which round otherwise."""
    step_cache: bool
    """Whether steps may be foretold where the request allows it."""
    versions: dict[str, str]

    def differs_from(self, other: Origin) -> str:
        """The first thing in which they differ, in words; empty: none."""
        mine, its = self.model_dump(), other.model_dump()
        for name in mine:
            if mine[name] != its[name]:
                return f"{name}: {_short(its[name])} then, {_short(mine[name])} now"
        return ""


class Manifest(_Plain):
    """A place in a run, and all but the tensors that is needed to go on from there."""

    schema_version: int = SCHEMA
    origin: Origin
    items: str
    """A digest of what the run was to make."""
    item: int
    """The output that was being made, from 0."""
    step: int
    """Steps of it that were done."""
    steps: int
    scheduler: dict[str, Any]
    """The scheduler's attributes; `{"tensor": name}` where the tensors have the value."""
    results: tuple[ItemResult, ...]
    """The outputs that were finished before, in order."""


def digest_of(items: Sequence[RunItem]) -> str:
    """The same for the same requests and file names, in the same order."""
    digest = hashlib.sha256()
    for item in items:
        # How often previews are shown is the worker's business and changes nothing that is made.
        digest.update(item.model_dump_json(exclude={"live_every_s"}).encode() + b"\n")
    return digest.hexdigest()


def read(run: Run, origin: Origin) -> Manifest:
    """The manifest that the run shall go on from.

    Raises:
        ValueError: it cannot be read, is damaged, or was made elsewhere or for something else: in words
            that name no path of this machine.
    """
    directory = Path(run.directory)
    try:
        manifest = Manifest.model_validate_json((directory / f"{run.resume}.json").read_text())
    except OSError as error:
        raise ValueError(f"its manifest cannot be read: {type(error).__name__}") from error
    except ValueError:
        raise ValueError("its manifest is damaged, or of another version") from None
    if difference := origin.differs_from(manifest.origin):
        raise ValueError(difference)
    if manifest.items != digest_of(run.items):
        raise ValueError("it was made for another request")
    files = [file for result in manifest.results for file in files_of(result)]
    if missing := [file for file in files if not (directory / file).is_file()]:
        raise ValueError(f"of its finished outputs {missing[0]} is missing")
    return manifest


def files_of(result: ItemResult) -> tuple[str, ...]:
    """The output's own file and those beside it."""
    return (result.file, *(side.file for side in result.beside))


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {part}" for name, part in value.items())
    return str(value)[:40]
