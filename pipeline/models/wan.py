"""Wan (arXiv:2503.20314): 2.1 T2V and I2V, 2.2 T2V and I2V A14B, 2.2 TI2V-5B; one frame is an image.

Everything that is special to Wan stands here and in the two modules beside it. The model is
diffusers' own for one device; parallelism is hung on it from outside.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from diffusers import WanImageToVideoPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from pipeline import switches
from pipeline.layout import Layout
from pipeline.models.card import make_card
from pipeline.models.model import Model
from pipeline.models.wan_card import Geometry, card_defaults
from pipeline.models.wan_decoding import decoder
from pipeline.models.wan_denoising import Experts, FirstFrame, beside, image_encoder, predictor
from pipeline.models.wan_parallel import spread
from pipeline.options import EngineOptions
from pipeline.parallel.cfg import Guidance
from pipeline.parallel.ranks import Ranks
from pipeline.parallel.sharding import shard_mesh
from pipeline.stages.decoding import Decoding
from pipeline.stages.denoising import Denoising
from pipeline.stages.image import ImageEncoding
from pipeline.stages.live import Colours
from pipeline.stages.preparation import LatentPreparation, TimestepPreparation
from pipeline.stages.text import TextEncoding
from pipeline.stages.validation import InputValidation
from pipeline.step_cache import StepCache

PIPELINES = ("WanPipeline", "WanImageToVideoPipeline")
"""`_class_name` of the directories that `load` knows."""

_TEXT_TOKENS = 512
"""What Wan was trained with; diffusers' `encode_prompt` would default to 226."""


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
    cache = StepCache(experts.all, geometry.channels, ranks) if options.step_cache else None
    card = make_card(options, card_defaults(pipe, geometry))
    fallbacks = switches.apply(pipe, options, ranks)
    decode = decoder(pipe.vae, first, options.vae_tiling, ranks)
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
                cache=cache,
                colours=Colours(decode),
            ),
            Decoding(decode, ranks),
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
