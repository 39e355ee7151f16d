"""How Wan's transformer is spread over a gang: its tokens, its width, its weights.

The transformer is diffusers' own for one device; all of this is hung on it from outside.
"""

from __future__ import annotations

from typing import Any

import torch
from torch.distributed.device_mesh import DeviceMesh

from pipeline.parallel import usp
from pipeline.parallel.ranks import Ranks
from pipeline.parallel.sequence import SequenceParallel
from pipeline.parallel.sharding import shard_weights
from pipeline.parallel.tensor import WidthNorm, share_linears
from pipeline.parallel.ulysses import Attend

_LINEARS = {
    "blocks.*.attn1.to_q": "colwise",
    "blocks.*.attn1.to_k": "colwise",
    "blocks.*.attn1.to_v": "colwise",
    "blocks.*.attn1.to_out.0": "rowwise",
    "blocks.*.attn2.to_q": "colwise",
    "blocks.*.attn2.to_k": "colwise",
    "blocks.*.attn2.to_v": "colwise",
    "blocks.*.attn2.to_out.0": "rowwise",
    "blocks.*.ffn.net.0.proj": "colwise",
    "blocks.*.ffn.net.2": "rowwise",
}
"""In the form of diffusers' `_tp_plan`, which Wan has not."""

_IMAGE_LINEARS = {
    "blocks.*.attn2.add_k_proj": "colwise",
    "blocks.*.attn2.add_v_proj": "colwise",
}
"""Those of a Wan that sees an image through CLIP."""

_NORMS = ("norm_q", "norm_k", "norm_added_k")


def spread(
    transformer: Any, mesh: DeviceMesh, ranks: Ranks, shards: DeviceMesh | None = None
) -> None:
    """Spread the transformer over the gang's groups. Every rank must call it.

    Args:
        transformer: in CPU memory, as it was loaded.
        mesh: the gang's.
        ranks: the gang.
        shards: who shares the weights, if they are to be sharded.

    Raises:
        ValueError: what the device or the model's width does not allow.
    """
    share_width(transformer, mesh["tp"])
    share_tokens(transformer, SequenceParallel.of(mesh), ranks)
    if shards is not None:
        shard_weights(transformer, transformer.blocks, shards)


def share_width(transformer: Any, mesh: DeviceMesh) -> None:
    """Give each rank its heads and its part of the feed-forward (Megatron-LM, arXiv:1909.08053).

    Wan normalises queries and keys over all heads at once, so the ranks add up their squares.
    """
    if mesh.size() == 1:
        return
    images = transformer.config.added_kv_proj_dim is not None
    share_linears(transformer, _LINEARS | (_IMAGE_LINEARS if images else {}), mesh)
    for block in transformer.blocks:
        for attention in (block.attn1, block.attn2):
            attention.heads //= mesh.size()
            for name in _NORMS:
                if (norm := getattr(attention, name, None)) is not None:
                    setattr(attention, name, WidthNorm(norm, mesh))


def share_tokens(transformer: Any, sequence: SequenceParallel, ranks: Ranks) -> None:
    """Spread the transformer's tokens over the ranks of `sequence`, its self-attention by USP.

    Cross-attention stays as it is: each rank has its own tokens' queries and the whole text.
    """
    sequence.apply(transformer, transformer._cp_plan)
    attend = usp.spread(
        sequence,
        ranks,
        head_width=transformer.config.attention_head_dim,
        dtype=transformer.blocks[0].attn1.to_q.weight.dtype,
    )
    transformer.set_attn_processor(
        {
            name: SelfAttention(attend) if name.endswith("attn1.processor") else processor
            for name, processor in transformer.attn_processors.items()
        }
    )


class SelfAttention:
    """Wan's self-attention, as in diffusers' WanAttnProcessor, around any way to attend."""

    def __init__(self, attend: Attend) -> None:
        self.attend = attend

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
        qkv = _query_key_value(attn, hidden_states, rotary_emb)
        dtype = qkv[0].dtype
        attended = self.attend(qkv).flatten(2, 3).to(dtype)
        linear, dropout = attn.to_out
        output: torch.Tensor = dropout(linear(attended))
        return output


def _query_key_value(
    attn: Any, hidden_states: torch.Tensor, rotary_emb: tuple[torch.Tensor, torch.Tensor]
) -> list[torch.Tensor]:
    """Each [B, l, H, D], and nothing else that would keep them alive."""
    query = torch.unflatten(attn.norm_q(attn.to_q(hidden_states)), 2, (attn.heads, -1))
    key = torch.unflatten(attn.norm_k(attn.to_k(hidden_states)), 2, (attn.heads, -1))
    value = torch.unflatten(attn.to_v(hidden_states), 2, (attn.heads, -1))
    return [_rotate(query, *rotary_emb), _rotate(key, *rotary_emb), value]


def _rotate(heads: torch.Tensor, cosines: torch.Tensor, sines: torch.Tensor) -> torch.Tensor:
    """Turn the even and odd halves of [B, l, H, D] by their position (RoPE, arXiv:2104.09864)."""
    even, odd = torch.unflatten(heads, -1, (-1, 2)).unbind(-1)
    cos, sin = cosines[..., 0::2], sines[..., 1::2]
    rotated = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
    return rotated.flatten(-2).type_as(heads)
