"""Wan (arXiv:2503.20314): 2.1 T2V and I2V, 2.2 T2V and I2V A14B, 2.2 TI2V-5B; one frame is an image.

Everything that is special to Wan stands here and in the two modules beside it. The model is
diffusers' own for one device; parallelism is hung on it from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from diffusers import WanImageToVideoPipeline
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, unpatchify
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from pipeline import switches
from pipeline.layout import Layout
from pipeline.models.card import make_card
from pipeline.models.model import Model
from pipeline.models.wan_card import Geometry, card_defaults
from pipeline.models.wan_denoising import Experts, FirstFrame, beside, image_encoder, predictor
from pipeline.models.wan_parallel import spread
from pipeline.options import EngineOptions
from pipeline.parallel.cfg import Guidance
from pipeline.parallel.ranks import Ranks
from pipeline.parallel.sharding import shard_mesh
from pipeline.stages.decoding import Decoding
from pipeline.stages.denoising import Denoising
from pipeline.stages.image import ImageEncoding
from pipeline.stages.preparation import LatentPreparation, TimestepPreparation
from pipeline.stages.state import State
from pipeline.stages.text import TextEncoding
from pipeline.stages.validation import InputValidation

PIPELINES = ("WanPipeline", "WanImageToVideoPipeline")
"""`_class_name` of the directories that `load` knows."""

_TEXT_TOKENS = 512
"""What Wan was trained with; diffusers' `encode_prompt` would default to 226."""

_PIXELS_AT_ONCE = 2**20
"""How much is decoded at once. Small frames one latent frame at a time are slow (128x128 on a CPU: 3
to 4 times); 480x832 has more than this in one, which is where memory begins to matter."""


def load(options: EngineOptions, layout: Layout, ranks: Ranks) -> Model:
    """Load a Wan and spread it over the gang.

    Raises:
        ValueError: a layout that its heads do not allow.
    """
    mesh = ranks.mesh(layout)
    dtype = getattr(torch, options.dtype) if options.dtype else ranks.platform.default_dtype
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    # VAE and image encoder in float32 as diffusers advises: in bfloat16 Wan's frames show bands.
    # The pipeline class that knows images reads the directories of either.
    pipe = WanImageToVideoPipeline.from_pretrained(
        options.model_path,
        dtype={"default": dtype, "vae": torch.float32, "image_encoder": torch.float32},
    )
    layout.check_heads(pipe.transformer.config.num_attention_heads)
    experts = Experts.of(pipe)
    shards = shard_mesh(ranks, options.hsdp_shard_dim) if options.use_fsdp_inference else None
    for transformer in experts.all:
        spread(transformer, mesh, ranks, shards)
    guidance = Guidance(mesh.get_group("cfg"))
    geometry = Geometry.of(pipe)
    first = FirstFrame(geometry) if pipe.config.expand_timesteps else None
    card = make_card(options, card_defaults(pipe, geometry))
    fallbacks = switches.apply(pipe, options, ranks)
    return Model(
        card=card,
        dtype=str(dtype).removeprefix("torch."),
        fallbacks=fallbacks,
        stages=(
            InputValidation(card, geometry.tokens, layout.sp),
            TextEncoding(_text_encoder(pipe, ranks.device, dtype), guidance),
            ImageEncoding(image_encoder(pipe, geometry, ranks.device, dtype)),
            LatentPreparation(geometry.latent_shape, ranks.device),
            TimestepPreparation(pipe.scheduler, ranks.device),
            Denoising(
                predictor(experts, pipe.scheduler, beside if first is None else first.see),
                pipe.scheduler,
                guidance,
                scale=experts.scale,
            ),
            Decoding(_decoder(pipe.vae, geometry, first), ranks),
        ),
    )


def _text_encoder(
    pipe: Any, device: torch.device, dtype: torch.dtype
) -> Callable[[str], torch.Tensor]:
    def encode(text: str) -> torch.Tensor:
        embeds, _ = pipe.encode_prompt(
            text,
            do_classifier_free_guidance=False,
            max_sequence_length=_TEXT_TOKENS,
            device=device,
        )
        converted: torch.Tensor = embeds.to(dtype)
        return converted

    return encode


def _decoder(
    vae: Any, geometry: Geometry, first: FirstFrame | None
) -> Callable[[State], Iterator[torch.Tensor]]:
    def frames(state: State) -> Iterator[torch.Tensor]:
        latent = state.latent if first is None else first.keep(state)
        pixels = geometry.vae_time * latent.shape[3] * latent.shape[4] * geometry.vae_space**2
        return decode(vae, latent, max(1, _PIXELS_AT_ONCE // pixels))

    return frames


def decode(vae: Any, latent: torch.Tensor, at_once: int) -> Iterator[torch.Tensor]:
    """Decode a normalised latent [1, C, F, H, W]: its first frame, then `at_once` frames at a time.

    One at a time equals `vae.decode` bit for bit, several to rounding (5e-6): the causal
    convolutions' last frames go along from chunk to chunk in `memory`, as they do there.

    Yields:
        float [1, 3, frames, height, width] in -1..1: 1 frame first, then 4 for each latent frame.
    """
    shape = (1, -1, 1, 1, 1)
    mean = torch.tensor(vae.config.latents_mean).view(shape).to(latent.device, vae.dtype)
    scale = 1.0 / torch.tensor(vae.config.latents_std).view(shape).to(latent.device, vae.dtype)
    hidden = vae.post_quant_conv(latent.to(vae.dtype) / scale + mean)
    memory = [None] * sum(isinstance(module, WanCausalConv3d) for module in vae.decoder.modules())
    for start in (0, *range(1, hidden.shape[2], at_once)):
        pixels = vae.decoder(
            hidden[:, :, start : start + at_once if start else 1],
            feat_cache=memory,
            feat_idx=[0],
            first_chunk=start == 0,
        )
        if vae.config.patch_size is not None:
            pixels = unpatchify(pixels, patch_size=vae.config.patch_size)
        yield torch.clamp(pixels, min=-1.0, max=1.0)
