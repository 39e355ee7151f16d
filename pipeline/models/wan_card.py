"""What a Wan can do: its geometry and its card, read from its own config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline import reach
from pipeline.request import Request


@dataclass(frozen=True)
class Geometry:
    """How pixels and frames become latents and latents tokens."""

    channels: int
    """Of the latent; a model that takes an image may see more beside them."""
    vae_space: int
    """Pixels a latent pixel stands for, each way."""
    vae_time: int
    """Frames a latent frame stands for, after the first."""
    patch: tuple[int, int, int]
    """Latent frames, rows and columns of one token."""

    @classmethod
    def of(cls, pipe: Any) -> Geometry:
        """Read it from the model's own config."""
        return cls(
            channels=pipe.vae.config.z_dim,
            vae_space=pipe.vae_scale_factor_spatial,
            vae_time=pipe.vae_scale_factor_temporal,
            patch=tuple(pipe.transformer.config.patch_size),
        )

    def latent_shape(self, request: Request) -> tuple[int, ...]:
        """[B, C, F, H, W] of a request's latent."""
        frames = (request.num_frames - 1) // self.vae_time + 1
        height, width = request.height // self.vae_space, request.width // self.vae_space
        return (1, self.channels, frames, height, width)

    def tokens(self, request: Request) -> int:
        """Length of the transformer's sequence."""
        _, _, frames, height, width = self.latent_shape(request)
        return (frames // self.patch[0]) * (height // self.patch[1]) * (width // self.patch[2])


def card_defaults(pipe: Any, geometry: Geometry) -> dict[str, Any]:
    """What the authors' own configs say of this Wan."""
    config = pipe.transformer.config
    size_multiple = geometry.vae_space * geometry.patch[1]
    two_experts = pipe.config.boundary_ratio is not None
    either = pipe.config.expand_timesteps
    return {
        "family": "wan",
        "fps": 16,
        "guidance_scale": 5.0,
        **reach.wan(
            rotary=config.rope_max_seq_len,
            patch_time=geometry.patch[0],
            size_multiple=size_multiple,
            frame_step=geometry.vae_time,
            two_experts=two_experts,
            either=either,
        ),
        "size_multiple": size_multiple,
        "frame_step": geometry.vae_time,
        **_of_variant(
            from_image=config.in_channels != geometry.channels,
            two_experts=two_experts,
            either=either,
        ),
    }


def _of_variant(*, from_image: bool, two_experts: bool, either: bool) -> dict[str, Any]:
    """Wan2.2 TI2V-5B starts from text or an image; of the others each checkpoint does one."""
    if either:
        return {
            "workloads": ("t2v", "t2i", "i2v"),
            "max_images": 1,
            "fps": 24,
            "num_inference_steps": 50,
        }
    variant: dict[str, Any] = {"workloads": ("t2v", "t2i"), "num_inference_steps": 50}
    if from_image:
        variant = {"workloads": ("i2v",), "max_images": 1, "num_inference_steps": 40}
    if two_experts:
        high, low = (3.5, 3.5) if from_image else (4.0, 3.0)
        variant |= {
            "num_inference_steps": 40,
            "guidance_scale": high,
            "guidance_scale_2": low,
        }
    return variant
