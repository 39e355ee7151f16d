"""The words between a gang's parent and its rank 0: one JSON object a line over a private pipe.

Parent -> rank 0: Init, Run, Cancel, Stop. Rank 0 -> parent: Ready, Resumed, Progress, Checkpoint,
Done, Failed.
A gang runs one Run at a time; `run_id` lets either side drop what belongs to an earlier one. Both
ends must speak the same VERSION. Bulk data crosses as files in `directory`, never in JSON.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from pipeline.limits import ModelCard
from pipeline.options import EngineOptions
from pipeline.request import Request

VERSION = 2


class Message(BaseModel):
    """Base of every message."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Init(Message):
    """The first message: what to load and how to share it. `num_gpus` is this gang's, dp left out."""

    type: Literal["init"] = "init"
    version: int = VERSION
    options: EngineOptions
    num_gpus: int


class DeviceInfo(Message):
    """One rank's device as the rank sees it."""

    rank: int
    pid: int
    device: str
    name: str
    memory_bytes: int


class Ready(Message):
    """The model is loaded and every rank is warm."""

    type: Literal["ready"] = "ready"
    version: int = VERSION
    card: ModelCard
    platform: str
    backend: str
    """torch.distributed's backend for device tensors."""
    dtype: str
    degrees: dict[str, int]
    """cfg, ring, ulysses, tp."""
    devices: tuple[DeviceInfo, ...]
    load_s: float
    fallbacks: tuple[str, ...] = ()
    """What runs otherwise than asked for, in words; shown in /health."""


class RunItem(Message):
    """One output: the request and the file name (inside `directory`) to write it to.

    Its input images lie in `<directory>/inputs`, under the names that the request has.
    """

    request: Request
    file: str
    return_frames: bool = False
    """Also write the frames, uint8 [F, H, W, 3], beside the file as `<file>.npy`."""
    previews: bool = False
    """Also write a thumbnail and a spritesheet of a video."""
    live_every_s: float = 0.0
    """Write a preview of what is being made this often at most; 0: never."""


class Run(Message):
    """Generate `items`, one after the other, into `directory`."""

    type: Literal["run"] = "run"
    run_id: str
    directory: str
    items: tuple[RunItem, ...] = Field(min_length=1)
    checkpoint_steps: int = 0
    """Leave a checkpoint after every so many steps; 0: never for that."""
    checkpoint_s: float = 0.0
    """The same by seconds since the last."""
    resume: str = ""
    """The name of the checkpoint in `directory` to go on from; empty: begin at the beginning."""


class Cancel(Message):
    """Stop this run at the next step boundary; rank 0 answers Failed with code `cancelled`."""

    type: Literal["cancel"] = "cancel"
    run_id: str
    checkpoint: bool = False
    """Leave a checkpoint before."""


class Stop(Message):
    """Leave in order."""

    type: Literal["stop"] = "stop"


class Progress(Message):
    """Where a run stands: step `step` of `steps` of a stage is done."""

    type: Literal["progress"] = "progress"
    run_id: str
    item: int
    stage: str
    step: int
    steps: int
    preview: str | None = None
    """A file in the run's directory that was just written: a small WebP of what is being made."""


class Checkpoint(Message):
    """The run can be gone on from here: `files` in its directory are whole."""

    type: Literal["checkpoint"] = "checkpoint"
    run_id: str
    name: str
    """What `Run.resume` calls it."""
    item: int
    step: int
    steps: int
    files: tuple[str, ...]
    """Its tensors, its manifest, and the outputs finished before."""


class Resumed(Message):
    """What came of `Run.resume`: the run goes on behind step `step` of output `item`."""

    type: Literal["resumed"] = "resumed"
    run_id: str
    item: int
    step: int
    steps: int
    refused: str = ""
    """Why the checkpoint is of no use and the output begins at step 0, in words."""


class SideFile(Message):
    """A smaller picture of an output, beside its file."""

    kind: Literal["thumbnail", "spritesheet"]
    file: str
    content_type: str
    size_bytes: int
    width: int
    height: int


class ItemResult(Message):
    """One finished output."""

    file: str
    content_type: str
    size_bytes: int
    width: int
    height: int
    num_frames: int
    fps: int
    seed: int
    timings_s: dict[str, float]
    """Seconds by stage."""
    beside: tuple[SideFile, ...] = ()


class Done(Message):
    """Every item of the run lies on disk."""

    type: Literal["done"] = "done"
    run_id: str
    results: tuple[ItemResult, ...]
    started_at: float
    """Unix seconds when rank 0 began."""
    ended_at: float
    """Unix seconds when rank 0 had the last file closed."""
    peak_memory_bytes: int


class Failed(Message):
    """The run ended without a result; the gang takes the next one unless `fatal`.

    With an empty `run_id`: the gang could not start. Any rank may say it; with code `refused` it is
    the options or the model itself, so that another start would end the same.
    """

    type: Literal["failed"] = "failed"
    run_id: str
    code: Literal["cancelled", "invalid_request", "out_of_memory", "not_finite", "error", "refused"]
    message: str
    fatal: bool = False
    """The ranks may be out of step: they leave, and the parent starts the gang anew."""


ToRank = Annotated[Init | Run | Cancel | Stop, Field(discriminator="type")]
News = Resumed | Progress | Checkpoint
"""What rank 0 says of a run before its answer."""
FromRank = Annotated[Ready | News | Done | Failed, Field(discriminator="type")]

_TO_RANK: TypeAdapter[ToRank] = TypeAdapter(ToRank)
_FROM_RANK: TypeAdapter[FromRank] = TypeAdapter(FromRank)


class ProtocolError(Exception):
    """The other end said something that this version does not know."""


def encode(message: Message) -> bytes:
    """One line, newline included."""
    return message.model_dump_json().encode() + b"\n"


def decode_to_rank(line: bytes) -> ToRank:
    """Read a line that the parent wrote.

    Raises:
        ProtocolError: unknown or malformed.
    """
    try:
        return _TO_RANK.validate_json(line)
    except ValueError as error:
        raise ProtocolError(f"cannot read {line[:200]!r}: {error}") from error


def decode_from_rank(line: bytes) -> FromRank:
    """Read a line that rank 0 wrote.

    Raises:
        ProtocolError: unknown or malformed.
    """
    try:
        return _FROM_RANK.validate_json(line)
    except ValueError as error:
        raise ProtocolError(f"cannot read {line[:200]!r}: {error}") from error
