"""Text encoder and denoiser as plain functions over their modules' weights, for training.

They compute what transformers and diffusers compute, but can be captured in a CUDA graph, compile
a block at a time, and need only `TEXT_SLOTS` text tokens where diffusers pads to 512: all pads are
the same token to cross-attention, so the last slot stands for many of them by a bias on its logit.

Letters in names: B clips, N text slots, L video tokens, D width.
"""

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from diffusers import WanTransformer3DModel
from diffusers.models.transformers.transformer_wan import WanAttention, WanTransformerBlock
from torch import Tensor, nn
from transformers import UMT5EncoderModel

from ops.demo_model.models import PAD

Block = Callable[
    [WanTransformerBlock, Tensor, Tensor, Tensor, tuple[Tensor, Tensor], Tensor], Tensor
]


def encode_text(encoder: UMT5EncoderModel, ids_BN: Tensor) -> Tensor:
    """Embeddings [B, N, D] of padded token ids, zero in the padding as WanPipeline has it."""
    real_BN = ids_BN != PAD
    mask = (~real_BN).float()[:, None, None] * -1e9
    slots = ids_BN.shape[1]
    x = encoder.shared(ids_BN)
    for layer in encoder.encoder.block:
        attention = layer.layer[0].SelfAttention
        h = layer.layer[0].layer_norm(x)
        q, k, v = (
            part(h).unflatten(2, (attention.n_heads, -1)).transpose(1, 2)
            for part in (attention.q, attention.k, attention.v)
        )
        bias = attention.compute_bias(slots, slots, device=x.device)
        weights = (q @ k.transpose(2, 3) + bias + mask).softmax(-1)
        x = x + attention.o((weights @ v).transpose(1, 2).flatten(2))
        x = layer.layer[1](x)
    x = encoder.encoder.final_layer_norm(x)
    return cast("Tensor", x * real_BN[:, :, None])


def pad_bias(ids_BN: Tensor, weight_B: Tensor) -> Tensor:
    """Cross-attention bias [B, 1, 1, N] that makes the last slot count as `weight_B` pads."""
    bias_BN = torch.zeros(ids_BN.shape, device=ids_BN.device)
    bias_BN[:, -1] = weight_B.log()
    return bias_BN[:, None, None]


def denoise(
    model: WanTransformer3DModel,
    noisy_BCTHW: Tensor,
    time_B: Tensor,
    text_BND: Tensor,
    bias_B11N: Tensor,
    run_block: Block,
) -> Tensor:
    """The flow [B, 16, T, H, W] at `time_B` in 0..1000, as WanTransformer3DModel gives it."""
    embed = model.condition_embedder
    rotary = model.rope(noisy_BCTHW)
    with torch.autocast(noisy_BCTHW.device.type, enabled=False):
        temb_BD = embed.time_embedder(embed.timesteps_proj(time_B))
        shifts_B6D = embed.time_proj(F.silu(temb_BD)).unflatten(1, (6, -1))
        text_BND = embed.text_embedder(text_BND.float())
    x_BLD = model.patch_embedding(noisy_BCTHW).flatten(2).transpose(1, 2).float().contiguous()
    for block in model.blocks:
        x_BLD = run_block(
            cast("WanTransformerBlock", block), x_BLD, text_BND, shifts_B6D, rotary, bias_B11N
        )
    shift, scale = (model.scale_shift_table + temb_BD[:, None]).chunk(2, dim=1)
    x_BLD = model.proj_out(_plain_norm(x_BLD) * (1 + scale) + shift)
    return _unpatch(x_BLD, noisy_BCTHW.shape, model.config.patch_size)


def block(
    layer: WanTransformerBlock,
    x_BLD: Tensor,
    text_BND: Tensor,
    shifts_B6D: Tensor,
    rotary: tuple[Tensor, Tensor],
    bias_B11N: Tensor,
) -> Tensor:
    """One transformer block; the residual stream stays float32."""
    shift, scale, gate, shift_ff, scale_ff, gate_ff = (
        layer.scale_shift_table + shifts_B6D.float()
    ).chunk(6, dim=1)
    h = _plain_norm(x_BLD) * (1 + scale) + shift
    x_BLD = x_BLD + gate * _self_attention(layer.attn1, h, rotary).float()
    h = layer.norm2(x_BLD)
    x_BLD = x_BLD + _cross_attention(layer.attn2, h, text_BND, bias_B11N).float()
    h = _plain_norm(x_BLD) * (1 + scale_ff) + shift_ff
    return cast("Tensor", x_BLD + gate_ff * layer.ffn(h).float())


def _plain_norm(x: Tensor) -> Tensor:
    return F.layer_norm(x.float(), x.shape[-1:], eps=1e-6)


def _rms(x: Tensor, norm: nn.Module) -> Tensor:
    weight, eps = cast("Tensor", norm.weight), cast("float", norm.eps)
    return F.rms_norm(x.float(), weight.shape, weight, eps)


def _heads(x_BLD: Tensor, attention: WanAttention) -> Tensor:
    """Split the width into heads: [B, L, H, D / H]."""
    return x_BLD.view(*x_BLD.shape[:2], attention.heads, -1)


def _self_attention(
    attention: WanAttention, x_BLD: Tensor, rotary: tuple[Tensor, Tensor]
) -> Tensor:
    cos, sin = rotary[0][..., 0::2], rotary[1][..., 1::2]

    def rotate(x_BLHE: Tensor) -> Tensor:
        even, odd = x_BLHE.view(*x_BLHE.shape[:-1], -1, 2).unbind(-1)
        turned = torch.stack([even * cos - odd * sin, even * sin + odd * cos], dim=-1)
        return turned.flatten(-2)

    value = _heads(attention.to_v(x_BLD), attention)
    query = rotate(_heads(_rms(attention.to_q(x_BLD), attention.norm_q), attention))
    key = rotate(_heads(_rms(attention.to_k(x_BLD), attention.norm_k), attention))
    query, key = query.to(value.dtype), key.to(value.dtype)
    mixed = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
    )
    return cast("Tensor", attention.to_out[0](mixed.transpose(1, 2).flatten(2)))


def _cross_attention(
    attention: WanAttention, x_BLD: Tensor, text_BND: Tensor, bias_B11N: Tensor
) -> Tensor:
    value = _heads(attention.to_v(text_BND), attention).transpose(1, 2)
    query = _heads(_rms(attention.to_q(x_BLD), attention.norm_q), attention).transpose(1, 2)
    key = _heads(_rms(attention.to_k(text_BND), attention.norm_k), attention).transpose(1, 2)
    query, key = query.to(value.dtype), key.to(value.dtype)
    logits = (query @ key.transpose(2, 3)).float() * query.shape[-1] ** -0.5 + bias_B11N
    mixed = logits.softmax(-1).to(value.dtype) @ value
    return cast("Tensor", attention.to_out[0](mixed.transpose(1, 2).flatten(2)))


def _unpatch(x_BLP: Tensor, shape: torch.Size, patch: tuple[int, int, int]) -> Tensor:
    batch, _, frames, height, width = shape
    t, h, w = patch
    x = x_BLP.float().view(batch, frames // t, height // h, width // w, t, h, w, -1)
    x = x.permute(0, 7, 1, 4, 2, 5, 3, 6)
    return x.flatten(6, 7).flatten(4, 5).flatten(2, 3)
