"""Denoising: the loop over steps, ours so that progress, cancel and CFG parallel live in it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import torch
from typing_extensions import override

from pipeline.parallel.cfg import Branch, Guidance
from pipeline.request import Request
from pipeline.stages import snapshot
from pipeline.stages.control import Steps
from pipeline.stages.live import Colours
from pipeline.stages.stage import Stage
from pipeline.stages.state import State
from pipeline.step_cache import StepCache

Predict = Callable[[State, int, Branch], torch.Tensor]
"""A family's model: what it takes the noise in the state's latent to be, at a step, for a branch;
shaped like the latent."""

Scale = Callable[[Request, torch.Tensor], float]
"""The guidance scale of a request at a timestep."""


class Denoising(Stage):
    """Takes the noise off the latent step by step, with classifier-free guidance."""

    name = "denoising"
    inputs = ("request", "prompt_embeds", "latent", "generator", "timesteps")
    outputs = ("latent",)

    def __init__(
        self,
        predict: Predict,
        scheduler: Any,
        guidance: Guidance,
        *,
        scale: Scale = lambda request, _: request.guidance_scale,
        cache: StepCache | None = None,
        colours: Colours | None = None,
    ) -> None:
        """`scheduler` is a diffusers scheduler of flow matching; `colours` make previews."""
        self._predict = predict
        self._scheduler = scheduler
        self._guidance = guidance
        self._scale = scale
        self._cache = cache
        self._colours = colours

    @override
    def run(self, state: State, steps: Steps) -> None:
        with nullcontext() if self._cache is None else self._cache.in_use(state.request):
            self._run(state, steps)

    def _run(self, state: State, steps: Steps) -> None:
        total = len(state.timesteps)
        begin = self._resume(state, steps)
        steps.done(self.name, begin, total)
        finite = True
        for step, timestep in enumerate(state.timesteps[begin:], begin):
            kept = self._agree(state, steps, step, finite=finite)
            if kept and self._cache is not None:
                self._cache.forget()
            scale = self._scale(state.request, timestep)
            predictions = {
                branch: self._predict(state, step, branch)
                for branch in self._guidance.branches(scale)
            }
            noise = self._guidance.combine(predictions, scale)
            if self._colours is not None:
                sigma = self._scheduler.sigmas[step]
                steps.show(partial(self._colours.paint, state, noise, sigma))
            state.latent = self._scheduler.step(noise, timestep, state.latent, return_dict=False)[0]
            steps.done(self.name, step + 1, total)
            # A look waits for the device. Damaged weights show in the first step, so that no more
            # than it is computed for nothing; what overflows later shows in the last.
            if step == begin or step + 1 == total:
                finite = bool(torch.isfinite(state.latent).all())
        self._agree(state, steps, total, finite=finite)

    def _agree(self, state: State, steps: Steps, step: int, *, finite: bool) -> bool:
        take = partial(snapshot.take, state, self._scheduler, step)
        return steps.agree_to_go_on(step, take, finite=finite)

    def _resume(self, state: State, steps: Steps) -> int:
        """Steps that are done already, as the ranks agree: what one cannot read, none goes on from."""
        if state.resume is None:
            return 0
        total, refused = len(state.timesteps), ""
        try:
            put_back = snapshot.load(state.resume, state, self._scheduler)
        except ValueError as error:
            refused = str(error)
        if refused := steps.first(refused):
            steps.resumed(0, total, refused)
            return 0
        put_back()
        steps.resumed(state.resume.step, total)
        return state.resume.step
