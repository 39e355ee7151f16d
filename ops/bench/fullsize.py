"""`python -m ops.bench.fullsize MODEL DIR`: a Wan of random weights, at full size or tiny.

With `--full` the sizes of Wan2.1-T2V-1.3B (its DiT of 1.4 billion parameters, UMT5-XXL of 5.7, its VAE),
bfloat16 but for the VAE, 15 GB on disk; without, MODEL's own. Speed and memory do not depend on what
the weights are.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TypeVar

import torch
from diffusers import AutoencoderKLWan, WanPipeline, WanTransformer3DModel
from torch import nn
from transformers import UMT5Config, UMT5EncoderModel

FULL = {"width": 832, "height": 480, "num_frames": 81, "fps": 16, "guidance_scale": 5.0}
TINY = {"width": 64, "height": 64, "num_frames": 9, "fps": 8, "guidance_scale": 5.0}

M = TypeVar("M", bound=nn.Module)


def main() -> None:
    """Write the directory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", help="whose tokenizer and scheduler are taken")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--steps", type=int, required=True)
    asked = parser.parse_args()
    pipe = WanPipeline.from_pretrained(asked.model)
    if asked.full:
        # Drawn where it is quick: 7 billion numbers take a CPU minutes.
        with torch.device(torch.accelerator.current_accelerator() or "cpu"):
            torch.manual_seed(0)
            pipe.text_encoder = _drawn(UMT5EncoderModel(_xxl()), torch.bfloat16)
            pipe.transformer = _drawn(_dit(), torch.bfloat16)
            pipe.vae = _drawn(AutoencoderKLWan(), torch.float32)
    pipe.save_pretrained(asked.directory)
    card = {**(FULL if asked.full else TINY), "num_inference_steps": asked.steps}
    (asked.directory / "card.json").write_text(json.dumps(card, indent=2) + "\n")


def _drawn(model: M, dtype: torch.dtype) -> M:
    """As the constructor draws them, on the CPU again."""
    return model.to("cpu", dtype)


def _dit() -> WanTransformer3DModel:
    """Diffusers' defaults are the 14B's."""
    return WanTransformer3DModel(num_attention_heads=12, num_layers=30, ffn_dim=8960)


def _xxl() -> UMT5Config:
    """google/umt5-xxl, the encoder of every Wan."""
    return UMT5Config(
        vocab_size=256384, d_model=4096, d_kv=64, d_ff=10240, num_layers=24, num_heads=64
    )


if __name__ == "__main__":
    main()
