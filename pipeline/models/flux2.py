"""FLUX.2 [klein] (bfl.ai/blog/flux2-klein): images from text, and from up to four images and text.

Base models are guided, distilled ones are not and need few steps. The model is diffusers' own for one
device; parallelism is hung on it from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from diffusers import Flux2KleinPipeline
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from diffusers.utils import logging as diffusers_logging
from PIL.Image import Image
from transformers.utils import logging as transformers_logging

from pipeline import reach, switches
from pipeline.layout import Layout
from pipeline.models.card import make_card
from pipeline.models.flux2_decoding import decoder
from pipeline.models.flux2_parallel import spread
from pipeline.models.model import Model
from pipeline.options import EngineOptions
from pipeline.parallel.cfg import Branch, Guidance
from pipeline.parallel.ranks import Ranks
from pipeline.parallel.sharding import shard_mesh
from pipeline.request import Request
from pipeline.stages.decoding import Decoding
from pipeline.stages.denoising import Denoising, Predict
from pipeline.stages.image import Encode, Encoded, ImageEncoding
from pipeline.stages.live import Colours
from pipeline.stages.preparation import LatentPreparation, Schedule, TimestepPreparation
from pipeline.stages.state import State
from pipeline.stages.text import TextEncoding
from pipeline.stages.validation import InputValidation

PIPELINES = ("Flux2KleinPipeline",)
"""`_class_name` of the directories that `load` knows."""

_TEXT_TOKENS = 512
_REFERENCE_PIXELS = 1024 * 1024
"""Larger references are shrunk to it, as the model was trained."""


def load(options: EngineOptions, layout: Layout, ranks: Ranks) -> Model:
    """Load a FLUX.2 [klein] and spread it over the gang.

    Raises:
        ValueError: a layout that its heads do not allow, a step cache.
    """
    if options.step_cache:
        raise ValueError(
            "step_cache is for Wan: diffusers' caches cannot skip from FLUX.2's double blocks to its single ones"
        )
    mesh = ranks.mesh(layout)
    dtype = getattr(torch, options.dtype) if options.dtype else ranks.platform.default_dtype
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    pipe = Flux2KleinPipeline.from_pretrained(options.model_path, dtype=dtype)
    layout.check_heads(pipe.transformer.config.num_attention_heads)
    shards = shard_mesh(ranks, options.hsdp_shard_dim) if options.use_fsdp_inference else None
    spread(pipe.transformer, mesh, ranks, shards)
    if options.vae_tiling == "on":
        pipe.vae.enable_tiling()
    guidance = Guidance(mesh.get_group("cfg"))
    geometry = Geometry(pipe)
    card = make_card(options, card_defaults(pipe, geometry))
    fallbacks = switches.apply(pipe, options, ranks)
    decode = decoder(pipe, options.vae_tiling, ranks)
    return Model(
        card=card,
        dtype=str(dtype).removeprefix("torch."),
        fallbacks=fallbacks,
        stages=(
            InputValidation(card, geometry.tokens, layout.sp),
            TextEncoding(_text_encoder(pipe, ranks.device), guidance),
            ImageEncoding(_image_encoder(pipe, geometry, ranks.device)),
            LatentPreparation(geometry.latent_shape, ranks.device),
            TimestepPreparation(pipe.scheduler, ranks.device, schedule=_schedule(pipe, geometry)),
            Denoising(
                _predictor(pipe, ranks.device),
                pipe.scheduler,
                guidance,
                colours=Colours(decode),
            ),
            Decoding(decode, ranks),
        ),
    )


class Geometry:
    """How pixels become latents and tokens: a latent pixel, patched two by two, is a token."""

    def __init__(self, pipe: Any) -> None:
        """Read it from the model's own config."""
        self.channels: int = pipe.transformer.config.in_channels
        self.pixels: int = pipe.vae_scale_factor * 2

    def latent_shape(self, request: Request) -> tuple[int, ...]:
        """[B, C, H, W] of a request's latent."""
        return (1, self.channels, request.height // self.pixels, request.width // self.pixels)

    def tokens(self, request: Request) -> int:
        """Tokens of the image that is made, without text and references."""
        _, _, height, width = self.latent_shape(request)
        return height * width


def card_defaults(pipe: Any, geometry: Geometry) -> dict[str, Any]:
    """The authors' own defaults; up to four references."""
    distilled = pipe.config.is_distilled
    return {
        "family": "flux2",
        "workloads": ("t2i", "i2i"),
        "fps": 1,
        "num_inference_steps": 4 if distilled else 50,
        "guidance_scale": 1.0 if distilled else 4.0,
        # A distilled model has no guidance to scale: another value is refused, not ignored.
        "max_guidance_scale": 1.0 if distilled else 20.0,
        **reach.FLUX2,
        "max_images": 4,
        # What diffusers' image processor takes.
        "min_image_side": 64,
        "max_image_aspect": 8,
        "size_multiple": geometry.pixels,
        "frame_step": 1,
    }


def _text_encoder(pipe: Any, device: torch.device) -> Callable[[str], torch.Tensor]:
    # A quarter, half and three quarters of the way up: (9, 18, 27) of Qwen3's 36 layers.
    layers = pipe.text_encoder.config.num_hidden_layers
    taken = tuple(layers * quarter // 4 for quarter in (1, 2, 3))

    def encode(text: str) -> torch.Tensor:
        embeds, _ = pipe.encode_prompt(
            text,
            device=device,
            max_sequence_length=_TEXT_TOKENS,
            text_encoder_out_layers=taken,
        )
        converted: torch.Tensor = embeds.to(pipe.transformer.dtype)
        return converted

    return encode


def _image_encoder(pipe: Any, geometry: Geometry, device: torch.device) -> Encode:
    processor = pipe.image_processor

    def prepared(image: Image) -> torch.Tensor:
        image = processor._resize_if_exceeds_area(image, _REFERENCE_PIXELS)
        width, height = (side // geometry.pixels * geometry.pixels for side in image.size)
        pixels: torch.Tensor = processor.preprocess(
            image, height=height, width=width, resize_mode="crop"
        )
        return pixels.to(device, pipe.vae.dtype)

    def encode(request: Request, images: Sequence[Image]) -> Encoded:
        del request
        return Encoded(
            tuple(pipe._encode_vae_image(prepared(image), generator=None) for image in images)
        )

    return encode


def _schedule(pipe: Any, geometry: Geometry) -> Schedule:
    """Evenly spread noise levels, shifted by how many tokens the image has."""
    flow = getattr(pipe.scheduler.config, "use_flow_sigmas", False)

    def schedule(request: Request) -> dict[str, Any]:
        steps = request.num_inference_steps
        mu = compute_empirical_mu(image_seq_len=geometry.tokens(request), num_steps=steps)
        if flow:
            return {"num_inference_steps": steps, "mu": mu}
        return {"sigmas": np.linspace(1.0, 1 / steps, steps), "mu": mu}

    return schedule


def _predictor(pipe: Any, device: torch.device) -> Predict:
    transformer = pipe.transformer
    text_ids = pipe._prepare_text_ids(torch.empty(1, _TEXT_TOKENS, 0)).to(device)

    def predict(state: State, step: int, branch: Branch) -> torch.Tensor:
        seen = [state.latent, *state.image_latent]
        ids = pipe._prepare_latent_ids(state.latent)
        if state.image_latent:
            ids = torch.cat([ids, pipe._prepare_image_ids(list(state.image_latent))], dim=1)
        with transformer.cache_context(branch):
            tokens = transformer(
                hidden_states=torch.cat([_pack(latent) for latent in seen], dim=1).to(
                    transformer.dtype
                ),
                timestep=state.timesteps[step].expand(1) / 1000,
                guidance=None,
                encoder_hidden_states=state.prompt_embeds[branch],
                txt_ids=text_ids,
                img_ids=ids.to(device),
                return_dict=False,
            )[0]
        shape = state.latent.shape
        own = tokens[:, : shape[2] * shape[3]].to(state.latent.dtype)
        prediction: torch.Tensor = own.transpose(1, 2).reshape(shape)
        return prediction

    return predict


def _pack(latent: torch.Tensor) -> torch.Tensor:
    """[B, C, H, W] -> [B, H * W, C]."""
    return latent.float().flatten(2).transpose(1, 2)
