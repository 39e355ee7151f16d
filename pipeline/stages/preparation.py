"""LatentPreparation and TimestepPreparation: where denoising starts and its way from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from typing_extensions import override

from pipeline.request import Request
from pipeline.stages.control import Steps
from pipeline.stages.stage import Stage
from pipeline.stages.state import State


class LatentPreparation(Stage):
    """Draws the noise of the whole latent, the same on every rank, device and layout."""

    name = "latent_preparation"
    inputs = ("request",)
    outputs = ("latent", "generator")

    def __init__(self, shape: Callable[[Request], tuple[int, ...]], device: torch.device) -> None:
        self._shape = shape
        self._device = device

    @override
    def run(self, state: State, steps: Steps) -> None:
        # On the CPU always: a device's own generator would give another video on another device.
        state.generator = torch.Generator().manual_seed(state.request.seed)
        shape = self._shape(state.request)
        noise = torch.randn(shape, generator=state.generator, dtype=torch.float32)
        state.latent = noise.to(self._device)


Schedule = Callable[[Request], dict[str, Any]]
"""A family's arguments of its scheduler's `set_timesteps`."""


def by_steps(request: Request) -> dict[str, Any]:
    """Nothing but the number of steps."""
    return {"num_inference_steps": request.num_inference_steps}


class TimestepPreparation(Stage):
    """Sets the scheduler to the request's steps."""

    name = "timestep_preparation"
    inputs = ("request",)
    outputs = ("timesteps",)

    def __init__(
        self, scheduler: Any, device: torch.device, *, schedule: Schedule = by_steps
    ) -> None:
        """`scheduler` is a diffusers scheduler."""
        self._scheduler = scheduler
        self._device = device
        self._schedule = schedule

    @override
    def run(self, state: State, steps: Steps) -> None:
        self._scheduler.set_timesteps(**self._schedule(state.request), device=self._device)
        self._scheduler.set_begin_index(0)
        state.timesteps = self._scheduler.timesteps
