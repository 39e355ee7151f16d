"""What a rank of a layout should send in a step, by the papers' formulas.

Mean over the ranks, in bytes. L layers, d width, S tokens, l = S / (ring x ulysses) a rank, F
forwards a step (2 with guidance, 1 where CFG parallel takes each to a rank of its own).
"""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.layout import Layout


def sent_bytes(
    layout: Layout, shape: Mapping[str, int], *, shard_dim: int | None = None
) -> dict[str, float]:
    """By the kind of exchange, as `pipeline.parallel.traffic` names them.

    Args:
        layout: the gang's.
        shape: of the model and the request, as `ops.bench.parallel_rank` reads it.
        shard_dim: ranks to a copy of sharded weights; None: not sharded.
    """
    size = shape["element_bytes"]
    forwards = 1 if layout.cfg == 2 else 2
    own = shape["tokens"] / layout.sp
    width = shape["width"] / layout.tp
    attentions = forwards * shape["layers"]
    return {
        "all-to-all": attentions * ulysses(own, width, layout.ulysses) * size,
        "send": attentions * ring(own * layout.ulysses, width / layout.ulysses, layout.ring) * size,
        "all-reduce": attentions * tensor(own, shape, layout.tp),
        # The output's tokens, once a forward, and the other branch's prediction, once a step.
        "all-gather": (layout.sp - 1) * forwards * own * shape["output"] * size
        + (layout.cfg - 1) * shape["latent"] * size,
        "weights": 0.0
        if shard_dim is None
        else forwards * shape["all_weight_bytes"] * (shard_dim - 1) / shard_dim,
    }


def ulysses(tokens: float, width: float, ranks: int) -> float:
    """Elements a rank sends for one attention: query, key, value and output, each (P - 1) / P of it.

    DeepSpeed-Ulysses, arXiv:2309.14509, section 3.2: 4 N h / P over the links of P ranks.
    """
    return 4 * tokens * width * (ranks - 1) / ranks


def ring(tokens: float, width: float, ranks: int) -> float:
    """Elements a rank sends for one attention: key and value of a block, P - 1 times.

    Ring Attention, arXiv:2310.01889, section 3.
    """
    return 2 * tokens * width * (ranks - 1)


def tensor(tokens: float, shape: Mapping[str, int], ranks: int) -> float:
    """Bytes a rank sends for one layer: an all-reduce, 2 (P - 1) / P, after each of three sublayers.

    Megatron-LM, arXiv:1909.08053, section 3, with cross-attention as the third; and the squares of
    queries and keys, one float32 a token, because Wan normalises over all heads.
    """
    sums = 3 * tokens * shape["width"] * shape["element_bytes"]
    squares = (3 * tokens + shape["text_tokens"]) * 4
    return 2 * (ranks - 1) / ranks * (sums + squares)
