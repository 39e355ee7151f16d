"""`python -m ops.bench.midsize MODEL DIR`: MODEL with a random transformer of 34 million parameters.

Large enough that a step is arithmetic, not overhead: 512 wide, 8 layers, 500 tokens.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from diffusers import WanPipeline, WanTransformer3DModel

CARD = {
    "width": 160,
    "height": 160,
    "num_frames": 17,
    "fps": 8,
    "num_inference_steps": 4,
    "guidance_scale": 5.0,
}


def main() -> None:
    """Write the directory."""
    model, directory = sys.argv[1:]
    pipe = WanPipeline.from_pretrained(model)
    torch.manual_seed(0)
    pipe.transformer = WanTransformer3DModel(
        num_attention_heads=8,
        attention_head_dim=64,
        text_dim=pipe.transformer.config.text_dim,
        ffn_dim=2048,
        num_layers=8,
    )
    pipe.save_pretrained(directory)
    (Path(directory) / "card.json").write_text(json.dumps(CARD, indent=2) + "\n")


if __name__ == "__main__":
    main()
