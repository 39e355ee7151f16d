"""How FLUX.2's transformer is spread over a gang: its tokens, text and image alike, and its width.

The attention processors are diffusers' own, around any way to attend. Shapes: B batch, t and i this rank's text
and image tokens, H heads, D head width.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from pipeline.parallel import usp
from pipeline.parallel.ranks import Ranks
from pipeline.parallel.sequence import SequenceParallel
from pipeline.parallel.sharding import shard_weights
from pipeline.parallel.tensor import share_linears
from pipeline.parallel.ulysses import Attend

_TEXT = ("encoder_hidden_states", "txt_ids")
"""Arguments of the transformer that hold text tokens; the others of its plan hold image tokens."""


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
    if mesh["tp"].size() > 1:
        share_linears(transformer, transformer._tp_plan, mesh["tp"])
    share_tokens(transformer, mesh, ranks)
    if shards is not None:
        blocks = [*transformer.transformer_blocks, *transformer.single_transformer_blocks]
        shard_weights(transformer, nn.ModuleList(blocks), shards)


def share_tokens(transformer: Any, mesh: DeviceMesh, ranks: Ranks) -> None:
    """Spread the transformer's text and image tokens over the ranks, its attention by USP.

    Each rank has a piece of either, one behind the other. Attention sees the ranks' pieces in
    another order than one rank's: keys and values have no order once they are rotated.
    """
    text, image, joint = (SequenceParallel.of(mesh) for _ in range(3))
    plan = transformer._cp_plan
    text.apply(transformer, {"": {name: plan[""][name] for name in _TEXT}})
    image.apply(
        transformer,
        {
            "": {name: place for name, place in plan[""].items() if name not in _TEXT},
            "proj_out": plan["proj_out"],
        },
    )

    def join(*_: object) -> None:
        joint.sizes = [sum(sizes) for sizes in zip(text.sizes, image.sizes, strict=True)]

    transformer.register_forward_pre_hook(join)
    attend = usp.spread(
        joint,
        ranks,
        head_width=transformer.config.attention_head_dim,
        dtype=transformer.dtype,
    )
    transformer.set_attn_processor(
        {
            name: Single(attend) if name.startswith("single_") else Double(attend)
            for name in transformer.attn_processors
        }
    )


class Double:
    """Of the blocks where text and image have weights of their own (Flux2AttnProcessor)."""

    def __init__(self, attend: Attend) -> None:
        self.attend = attend

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor],
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image [B, i, width] and text [B, t, width] to the same, in that order.

        `image_rotary_emb` is cosines and sines of text and image, [t + i, D].
        """
        del attention_mask
        text, image = encoder_hidden_states, hidden_states
        qkv = [
            _join(
                attn.norm_added_q(_heads(attn.add_q_proj(text), attn)),
                attn.norm_q(_heads(attn.to_q(image), attn)),
            ),
            _join(
                attn.norm_added_k(_heads(attn.add_k_proj(text), attn)),
                attn.norm_k(_heads(attn.to_k(image), attn)),
            ),
            _join(_heads(attn.add_v_proj(text), attn), _heads(attn.to_v(image), attn)),
        ]
        attended = _attended(self.attend, qkv, image_rotary_emb)
        text, image = torch.split(attended, [text.shape[1], image.shape[1]], dim=1)
        linear, dropout = attn.to_out
        return dropout(linear(image)), attn.to_add_out(text)


class Single:
    """Of the blocks of one stream, attention and MLP side by side (Flux2ParallelSelfAttnProcessor)."""

    def __init__(self, attend: Attend) -> None:
        self.attend = attend

    def __call__(
        self,
        attn: Any,
        hidden_states: torch.Tensor,
        attention_mask: None,
        image_rotary_emb: tuple[torch.Tensor, torch.Tensor],
    ) -> torch.Tensor:
        """[B, t + i, width] to the same."""
        del attention_mask
        projected = attn.to_qkv_mlp_proj(hidden_states)
        # By their ratio, not their widths: tensor parallelism leaves each rank a part of both.
        whole = 3 * attn.inner_dim + attn.mlp_hidden_dim * attn.mlp_mult_factor
        width = projected.shape[-1] * 3 * attn.inner_dim // whole
        attention, mlp = projected.split([width, projected.shape[-1] - width], dim=-1)
        fed_forward = attn.mlp_act_fn(mlp)
        qkv = [_heads(part, attn) for part in attention.chunk(3, dim=-1)]
        qkv[:2] = attn.norm_q(qkv[0]), attn.norm_k(qkv[1])
        del projected, attention, mlp  # one buffer, of which nothing is wanted now
        attended = _attended(self.attend, qkv, image_rotary_emb)
        output: torch.Tensor = attn.to_out(torch.cat([attended, fed_forward], dim=-1))
        return output


def _heads(projected: torch.Tensor, attn: Any) -> torch.Tensor:
    """[B, l, H * D] -> [B, l, H, D]."""
    return torch.unflatten(projected, -1, (-1, attn.head_dim))


def _join(text: torch.Tensor, image: torch.Tensor) -> torch.Tensor:
    return torch.cat([text, image], dim=1)


def _attended(
    attend: Attend, qkv: list[torch.Tensor], rotary: tuple[torch.Tensor, torch.Tensor]
) -> torch.Tensor:
    """Attention from `qkv`, which it empties."""
    for place in (0, 1):
        qkv[place] = apply_rotary_emb(qkv[place], rotary, sequence_dim=1)
    dtype = qkv[0].dtype
    return attend(qkv).flatten(2, 3).to(dtype)
