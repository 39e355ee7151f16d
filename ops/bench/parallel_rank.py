"""One rank of `rushes bench parallel --table`: generates once and writes down what it saw.

Run by `ops.bench.parallel` as a process of its own; torch stays out of the command line.
"""

from __future__ import annotations

import argparse
import gc
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import WanTransformer3DModel

from ops.bench.holding import Holding
from pipeline.engine import Engine
from pipeline.layout import Layout
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks, join
from pipeline.parallel.traffic import Traffic
from pipeline.request import Params, resolve
from pipeline.stages.control import Silent, Steps
from pipeline.stages.state import State


def main() -> None:
    """Generate; rank 0 also writes latent and frames."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--layout", type=json.loads, required=True)
    parser.add_argument("--options", type=EngineOptions.model_validate_json, required=True)
    parser.add_argument("--params", type=Params.model_validate_json, required=True)
    given = parser.parse_args()
    folder, layout = given.folder, Layout(**given.layout)
    ranks = join(
        rank=given.rank,
        world_size=layout.gang_size,
        rendezvous=folder / "rendezvous",
        device=given.options.device,
    )
    seen = look(ranks, layout, given.options, given.params, folder)
    (folder / f"{ranks.rank}.json").write_text(json.dumps(seen))
    ranks.leave()


def look(
    ranks: Ranks, layout: Layout, options: EngineOptions, params: Params, folder: Path
) -> dict[str, Any]:
    """Load and generate once; rank 0 writes latent.npy and frames.npy into `folder`.

    Returns:
        Bytes sent in a step by kind, bytes of keys and values and of weights at their peak while
        denoising, of weights kept, and the sizes that the formulas want.
    """
    before = _transformers()
    engine = Engine.load(options, layout, ranks)
    transformers = [new for new in _transformers() if not any(new is old for old in before)]
    request = resolve(params, engine.card)
    traffic, holding = Traffic(), Holding(transformers)
    for transformer in transformers:
        for block in transformer.blocks:
            holding.watch(block.attn1.processor)
    state, steps = State(request, inputs=folder), Steps(Silent(), ranks)
    with torch.no_grad():
        for stage in engine.model.stages[:-2]:
            stage.run(state, steps)
        with traffic, holding:
            engine.model.stages[-2].run(state, steps)
        engine.model.stages[-1].run(state, steps)
        if ranks.rank == 0:
            np.save(folder / "latent.npy", state.latent.float().cpu().numpy())
            np.save(folder / "frames.npy", torch.cat(list(state.frames)).numpy())
            state.frames.close()
    return {
        "sent_bytes_a_step": {
            kind: sent / request.num_inference_steps for kind, sent in traffic.sent_bytes.items()
        },
        "key_value_bytes": holding.key_value_bytes,
        "weight_bytes": holding.weight_bytes,
        "kept_weight_bytes": holding.kept_weight_bytes,
        "shape": _shape(engine, transformers[0], state),
    }


def _transformers() -> list[WanTransformer3DModel]:
    """Those alive in this process: the engine does not hand out its own."""
    gc.collect()
    return [thing for thing in gc.get_objects() if isinstance(thing, WanTransformer3DModel)]


def _shape(engine: Engine, transformer: Any, state: State) -> dict[str, int]:
    """The sizes that the formulas want."""
    config, rows = transformer.config, state.latent.shape[2:]
    patch = config.patch_size
    return {
        "layers": config.num_layers,
        "width": config.num_attention_heads * config.attention_head_dim,
        "tokens": int(np.prod([side // step for side, step in zip(rows, patch, strict=True)])),
        "text_tokens": next(iter(state.prompt_embeds.values())).shape[1],
        "output": config.out_channels * int(np.prod(patch)),
        "latent": state.latent.numel(),
        "element_bytes": getattr(torch, engine.dtype).itemsize,
        "all_weight_bytes": sum(w.numel() * w.element_size() for w in transformer.parameters()),
    }


if __name__ == "__main__":
    main()
