"""Where a generation stands after a step, as tensors and plain values: what a checkpoint is made of.

All ranks have the same latent and the same scheduler, so one rank's snapshot is everybody's. It holds
no cached activations.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from pipeline.stages.state import State

_CONFIG = "_internal_dict"
"""Where a diffusers scheduler keeps its config, which is the model's."""


@dataclass(frozen=True)
class Snapshot:
    """`step` of `steps` are done."""

    step: int
    steps: int
    tensors: dict[str, torch.Tensor]
    """Copies on the CPU: `latent`, `generator`, and the scheduler's by their attribute."""
    scheduler: dict[str, Any]
    """JSON-ready; `{"tensor": name}` stands for a tensor."""

    @property
    def finite(self) -> bool:
        """Whether going on from here can come to anything."""
        return bool(torch.isfinite(self.tensors["latent"]).all())

    def save(self, file: Path) -> None:
        """Write the tensors.

        Raises:
            OSError: it could not be written.
        """
        try:
            save_file(self.tensors, file)
        except SafetensorError as error:
            raise OSError(f"cannot write {file.name}: {error}") from error


@dataclass(frozen=True)
class Resume:
    """A snapshot on disk to go on from: its tensors' file, and the rest of it."""

    file: Path
    step: int
    scheduler: dict[str, Any]


def take(state: State, scheduler: Any, step: int) -> Snapshot:
    """Copy what the steps to come depend on.

    Raises:
        TypeError: the scheduler has an attribute of a kind that cannot be kept.
    """
    tensors = {"latent": state.latent, "generator": state.generator.get_state()}
    values = {
        name: _replaced(f"scheduler.{name}", value, tensors)
        for name, value in vars(scheduler).items()
        if name != _CONFIG
    }
    copies = {
        name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()
    }
    return Snapshot(step, len(state.timesteps), copies, values)


def load(resume: Resume, state: State, scheduler: Any) -> Callable[[], None]:
    """Read the snapshot; what is returned lets `state` and `scheduler` stand where it was taken.

    Args:
        resume: what to read.
        state: prepared for step 0, as `scheduler` is.
        scheduler: of the kind that the snapshot was taken of.

    Raises:
        ValueError: its file cannot be read or does not fit: in words that name no path of this machine.
    """
    try:
        tensors = load_file(resume.file)
        latent, generator_state = tensors["latent"], tensors["generator"]
        values = {
            name: _found(value, tensors, getattr(scheduler, name, None), state.latent.device)
            for name, value in resume.scheduler.items()
        }
    except OSError as error:
        raise ValueError(f"its file cannot be read: {type(error).__name__}") from error
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"its file is damaged: {error}") from error
    if (latent.shape, latent.dtype) != (state.latent.shape, state.latent.dtype):
        raise ValueError(f"its latent is {latent.dtype} {tuple(latent.shape)}")
    if not 0 <= resume.step <= len(state.timesteps):
        raise ValueError(f"it was made after step {resume.step} of {len(state.timesteps)}")

    def put_back() -> None:
        state.latent = latent.to(state.latent.device)
        state.generator.set_state(generator_state)
        for name, value in values.items():
            setattr(scheduler, name, value)

    return put_back


def _replaced(name: str, value: object, tensors: dict[str, torch.Tensor]) -> Any:
    """`value` with its tensors moved to `tensors`."""
    if isinstance(value, torch.Tensor):
        tensors[name] = value
        return {"tensor": name}
    if isinstance(value, list | tuple):
        return [_replaced(f"{name}.{i}", part, tensors) for i, part in enumerate(value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    raise TypeError(f"{name} is a {type(value).__name__}")


def _found(
    value: Any, tensors: Mapping[str, torch.Tensor], before: Any, device: torch.device
) -> Any:
    """The reverse. A tensor goes to the device of the one `before` it, if there was one."""
    if isinstance(value, dict):
        place = before.device if isinstance(before, torch.Tensor) else device
        return tensors[value["tensor"]].to(place)
    if isinstance(value, list):
        olds = (
            before
            if isinstance(before, list) and len(before) == len(value)
            else [None] * len(value)
        )
        return [_found(part, tensors, old, device) for part, old in zip(value, olds, strict=True)]
    return value
