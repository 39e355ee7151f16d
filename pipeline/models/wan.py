"""Wan text-to-video (arXiv:2503.20314): Wan2.1 T2V of any size; one frame makes an image.

Everything that is special to Wan stands here. The model is diffusers' own for one device;
parallelism is hung on it from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from diffusers import WanPipeline
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.autoencoders.autoencoder_kl_wan import WanCausalConv3d, unpatchify
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from pipeline.layout import Layout
from pipeline.models.card import make_card
from pipeline.models.model import Model
from pipeline.options import EngineOptions
from pipeline.parallel.cfg import Branch, Guidance
from pipeline.parallel.ranks import Ranks
from pipeline.parallel.sequence import SequenceParallel
from pipeline.parallel.ulysses import Attend, ulysses
from pipeline.request import Request
from pipeline.stages.decoding import Decoding
from pipeline.stages.denoising import Denoising
from pipeline.stages.preparation import LatentPreparation, TimestepPreparation
from pipeline.stages.state import State
from pipeline.stages.text import TextEncoding
from pipeline.stages.validation import InputValidation

_TEXT_TOKENS = 512
"""What Wan was trained with; diffusers' `encode_prompt` would default to 226."""

_PIXELS_AT_ONCE = 2**20
"""How much is decoded at once. Small frames one latent frame at a time are slow (128x128 on a CPU: 3
to 4 times); 480x832 has more than this in one, which is where memory begins to matter."""


def load(options: EngineOptions, layout: Layout, ranks: Ranks) -> Model:
    """Load a WanPipeline and spread it over the gang.

    Raises:
        ValueError: a Wan that is not served yet, or a layout that its heads do not allow.
    """
    mesh = ranks.mesh(layout)
    dtype = getattr(torch, options.dtype) if options.dtype else ranks.platform.default_dtype
    diffusers_logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()
    # The VAE in float32 as diffusers advises for Wan: in bfloat16 its frames show bands.
    pipe = WanPipeline.from_pretrained(
        options.model_path, dtype={"default": dtype, "vae": torch.float32}
    )
    if pipe.transformer_2 is not None or pipe.config.expand_timesteps:
        raise ValueError(f"{options.model_path} is a Wan2.2: it comes with the pipeline issue (4)")
    heads = pipe.transformer.config.num_attention_heads
    if heads % layout.ulysses:
        fits = ", ".join(str(degree) for degree in range(1, heads + 1) if heads % degree == 0)
        raise ValueError(
            f"{heads} heads do not divide by ulysses {layout.ulysses}; degrees that do: {fits}"
        )
    pipe.to(ranks.device)
    sequence = SequenceParallel(mesh.get_group("ulysses"))
    share_tokens(pipe.transformer, sequence)
    guidance = Guidance(mesh.get_group("cfg"))
    geometry = Geometry.of(pipe)
    card = make_card(options, card_defaults(geometry, pipe.transformer.config.rope_max_seq_len))
    return Model(
        card=card,
        dtype=str(dtype).removeprefix("torch."),
        stages=(
            InputValidation(card, geometry.tokens, layout.sp),
            TextEncoding(_text_encoder(pipe, ranks.device, dtype), guidance),
            LatentPreparation(geometry.latent_shape, ranks.device),
            TimestepPreparation(pipe.scheduler, ranks.device),
            Denoising(_predictor(pipe), pipe.scheduler, guidance),
            Decoding(_decoder(pipe.vae, geometry), ranks),
        ),
    )


@dataclass(frozen=True)
class Geometry:
    """How pixels and frames become latents and latents tokens."""

    channels: int
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
            channels=pipe.transformer.config.in_channels,
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


def card_defaults(geometry: Geometry, rope_length: int) -> dict[str, Any]:
    """Wan2.1's own defaults; limits as far as the rotary table and sense reach (161 frames: 10 s)."""
    size_multiple = geometry.vae_space * geometry.patch[1]
    longest = geometry.vae_time * (rope_length * geometry.patch[0] - 1) + 1
    widest = min(1280, rope_length * size_multiple)
    return {
        "family": "wan",
        "workloads": ("t2v", "t2i"),
        "width": 832,
        "height": 480,
        "num_frames": 81,
        "fps": 16,
        "num_inference_steps": 50,
        "guidance_scale": 5.0,
        "max_width": widest,
        "max_height": widest,
        "max_num_frames": min(161, longest),
        "size_multiple": size_multiple,
        "frame_step": geometry.vae_time,
    }


def share_tokens(transformer: Any, sequence: SequenceParallel) -> None:
    """Spread the transformer's tokens over the ranks of `sequence`, its self-attention by Ulysses.

    Cross-attention stays as it is: each rank has its own tokens' queries and the whole text.
    """
    sequence.apply(transformer, transformer._cp_plan)
    spread = SelfAttention(ulysses(_attend, sequence))
    transformer.set_attn_processor(
        {
            name: spread if name.endswith("attn1.processor") else processor
            for name, processor in transformer.attn_processors.items()
        }
    )


class SelfAttention:
    """Wan's self-attention, as in diffusers' WanAttnProcessor, around any way to attend."""

    def __init__(self, attend: Attend) -> None:
        self._attend = attend

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: None,
        attention_mask: None,
        rotary_emb: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """Attend from this rank's tokens to all tokens: [B, l, width] to the same.

        `rotary_emb` is cosines and sines of this rank's tokens, [1, l, 1, D]. Text and mask are in
        diffusers' signature; self-attention has neither.
        """
        del encoder_hidden_states, attention_mask
        query = torch.unflatten(attn.norm_q(attn.to_q(hidden_states)), 2, (attn.heads, -1))
        key = torch.unflatten(attn.norm_k(attn.to_k(hidden_states)), 2, (attn.heads, -1))
        value = torch.unflatten(attn.to_v(hidden_states), 2, (attn.heads, -1))
        query, key = _rotate(query, *rotary_emb), _rotate(key, *rotary_emb)
        attended = self._attend(query, key, value).flatten(2, 3).type_as(query)
        linear, dropout = attn.to_out
        output: torch.Tensor = dropout(linear(attended))
        return output


def _attend(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    output: torch.Tensor = dispatch_attention_fn(query, key, value)
    return output


def _rotate(heads: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Turn the even and odd halves of [B, l, H, D] by their position (RoPE, arXiv:2104.09864)."""
    even, odd = torch.unflatten(heads, -1, (-1, 2)).unbind(-1)
    cos, sin = cosines[..., 0::2], sines[..., 1::2]
    rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return rotated.flatten(-2).type_as(heads)


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


def _predictor(pipe: Any) -> Callable[[State, int, Branch], torch.Tensor]:
    transformer, scheduler = pipe.transformer, pipe.scheduler

    def predict(state: State, step: int, branch: Branch) -> torch.Tensor:
        timestep = state.timesteps[step].expand(1)
        with transformer.cache_context(
            branch,
            step_index=step,
            sigma=float(scheduler.sigmas[step]),
            num_inference_steps=len(state.timesteps),
        ):
            prediction: torch.Tensor = transformer(
                hidden_states=state.latent.to(transformer.dtype),
                timestep=timestep,
                encoder_hidden_states=state.prompt_embeds[branch],
                return_dict=False,
            )[0]
        return prediction

    return predict


def _decoder(vae: Any, geometry: Geometry) -> Callable[[torch.Tensor], Iterator[torch.Tensor]]:
    def frames(latent: torch.Tensor) -> Iterator[torch.Tensor]:
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
