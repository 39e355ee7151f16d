"""Denoising: the loop over steps, ours so that progress, cancel and CFG parallel live in it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from typing_extensions import override

from pipeline.parallel.cfg import Branch, Guidance
from pipeline.stages.control import Steps
from pipeline.stages.stage import Stage
from pipeline.stages.state import State

Predict = Callable[[State, int, Branch], torch.Tensor]
"""A family's model: what it takes the noise in the state's latent to be, at a step, for a branch;
shaped like the latent."""


class Denoising(Stage):
    """Takes the noise off the latent step by step, with classifier-free guidance."""

    name = "denoising"
    inputs = ("request", "prompt_embeds", "latent", "timesteps")
    outputs = ("latent",)

    def __init__(self, predict: Predict, scheduler: Any, guidance: Guidance) -> None:
        """`scheduler` is a diffusers scheduler."""
        self._predict = predict
        self._scheduler = scheduler
        self._guidance = guidance

    @override
    def run(self, state: State, steps: Steps) -> None:
        scale = state.request.guidance_scale
        total = len(state.timesteps)
        steps.done(self.name, 0, total)
        for step, timestep in enumerate(state.timesteps):
            steps.agree_to_go_on()
            predictions = {
                branch: self._predict(state, step, branch)
                for branch in self._guidance.branches(scale)
            }
            noise = self._guidance.combine(predictions, scale)
            state.latent = self._scheduler.step(noise, timestep, state.latent, return_dict=False)[0]
            steps.done(self.name, step + 1, total)
        steps.agree_to_go_on()
