"""What Wan's transformers see and predict: images beside the latent, two experts, kept first frames."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL.Image import Image

from pipeline.models.wan_card import Geometry
from pipeline.parallel.cfg import Branch
from pipeline.request import Request
from pipeline.stages.denoising import Predict
from pipeline.stages.image import Encode, Encoded
from pipeline.stages.state import State


@dataclass(frozen=True)
class Experts:
    """Wan2.2's two transformers, one for noisy timesteps and one for the rest; Wan2.1 has the first."""

    high: Any
    low: Any | None
    boundary: float
    """The least timestep of the first."""

    @classmethod
    def of(cls, pipe: Any) -> Experts:
        """Read them from a pipeline."""
        ratio = pipe.config.boundary_ratio
        if ratio is None:
            return cls(pipe.transformer, None, 0.0)
        return cls(
            pipe.transformer,
            pipe.transformer_2,
            ratio * pipe.scheduler.config.num_train_timesteps,
        )

    @property
    def all(self) -> tuple[Any, ...]:
        """One or two transformers."""
        return (self.high,) if self.low is None else (self.high, self.low)

    def at(self, timestep: torch.Tensor) -> Any:
        """The transformer of a timestep."""
        return self.high if self.low is None or timestep >= self.boundary else self.low

    def scale(self, request: Request, timestep: torch.Tensor) -> float:
        """The guidance scale of a timestep."""
        if request.guidance_scale_2 is None or self.at(timestep) is self.high:
            return request.guidance_scale
        return request.guidance_scale_2


See = Callable[[State, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""The transformer's hidden states [B, C', F, H, W] and timesteps, [B] or [B, tokens]."""


def beside(state: State, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The latent, an image's channels beside its own: Wan2.1 and the A14B of Wan2.2."""
    return torch.cat([state.latent, *state.image_latent], dim=1), timestep.expand(1)


class FirstFrame:
    """An image as the clean first frame of the latent: TI2V-5B, whose tokens have a timestep each."""

    def __init__(self, geometry: Geometry) -> None:
        self._patch = geometry.patch

    def see(self, state: State, timestep: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The latent with the image in place, whose tokens are at timestep 0."""
        mask = self._noisy(state)
        _, rows, columns = self._patch
        by_token = (mask[0, 0, :, ::rows, ::columns] * timestep).flatten()
        return self.keep(state), by_token[None]

    def keep(self, state: State) -> torch.Tensor:
        """The latent with the image in place."""
        if not state.image_latent:
            return state.latent
        mask = self._noisy(state)
        kept: torch.Tensor = (1 - mask) * state.image_latent[0] + mask * state.latent
        return kept

    def _noisy(self, state: State) -> torch.Tensor:
        """1 where denoising works, 0 where the image stays: [1, 1, F, H, W]."""
        mask = torch.ones_like(state.latent[:, :1])
        if state.image_latent:
            mask[:, :, 0] = 0
        return mask


def predictor(experts: Experts, scheduler: Any, see: See) -> Predict:
    """The experts' prediction of one branch at one step."""

    def predict(state: State, step: int, branch: Branch) -> torch.Tensor:
        timestep = state.timesteps[step]
        transformer = experts.at(timestep)
        hidden, timesteps = see(state, timestep)
        with transformer.cache_context(
            branch,
            step_index=step,
            sigma=float(scheduler.sigmas[step]),
            num_inference_steps=len(state.timesteps),
        ):
            prediction: torch.Tensor = transformer(
                hidden_states=hidden.to(transformer.dtype),
                timestep=timesteps,
                encoder_hidden_states=state.prompt_embeds[branch],
                encoder_hidden_states_image=state.image_embeds,
                return_dict=False,
            )[0]
        return prediction

    return predict


def image_encoder(
    pipe: Any, geometry: Geometry, device: torch.device, dtype: torch.dtype
) -> Encode:
    """A first frame through VAE and, for Wan2.1, CLIP, as diffusers' WanImageToVideoPipeline does it.

    The image is scaled to the request's size, whatever its shape.
    """

    def encode(request: Request, images: Sequence[Image]) -> Encoded:
        (image,) = images
        pixels = pipe.video_processor.preprocess(image, height=request.height, width=request.width)
        _, latent, *_ = pipe.prepare_latents(
            pixels.to(device, torch.float32),
            1,
            geometry.channels,
            request.height,
            request.width,
            request.num_frames,
            torch.float32,
            device,
            latents=torch.empty(0),  # the noise is LatentPreparation's business
        )
        if pipe.transformer.config.image_dim is None:
            return Encoded((latent,))
        return Encoded((latent,), pipe.encode_image(image, device).to(dtype))

    return encode
