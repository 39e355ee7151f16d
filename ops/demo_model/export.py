"""Assembles a training run into the Diffusers directory that is shipped and served.

Run as `python -m ops.demo_model.export --run runs/demo --to ops/demo_model/model`.
"""

import argparse
import json
import shutil
from pathlib import Path
from typing import Any, Final

import torch
from diffusers import WanPipeline
from safetensors.torch import load_file

from ops.demo_model.latents import load_vae
from ops.demo_model.models import (
    new_scheduler,
    new_text_encoder,
    new_tokenizer,
    new_transformer,
)
from ops.demo_model.world import FRAMES, SIZE

MAX_BYTES: Final = 16_000_000

CARD: Final[dict[str, Any]] = {
    "name": "demo",
    "workloads": ["t2v", "t2i"],
    "width": SIZE,
    "height": SIZE,
    "num_frames": FRAMES,
    "fps": 8,
    "num_inference_steps": 20,
    "guidance_scale": 3.0,
    "max_width": 192,
    "max_height": 192,
    "max_num_frames": 49,
    "max_num_inference_steps": 50,
}
"""Defaults and limits of the served model; fps in frames a second, sizes in pixels."""


def export(run: Path, to: Path) -> int:
    """Write the directory `to` anew from the folder `run`; returns its size in bytes."""
    transformer, text_encoder, vae = new_transformer(), new_text_encoder(), load_vae(run)
    transformer.load_state_dict(load_file(run / "transformer.safetensors"))
    text_encoder.load_state_dict(load_file(run / "text_encoder.safetensors"))
    pipeline = WanPipeline(
        tokenizer=new_tokenizer(),
        text_encoder=text_encoder.to(torch.bfloat16),
        vae=vae.to(torch.bfloat16),
        scheduler=new_scheduler(),
        transformer=transformer.to(torch.bfloat16),
    )
    if to.exists():
        shutil.rmtree(to)
    pipeline.save_pretrained(to)
    # Computed in float32, as diffusers loads the other parts, though stored in bfloat16.
    _change(to / "text_encoder" / "config.json", dtype="float32")
    # The class's public name; transformers 5 writes that of its internal alias.
    _change(to / "model_index.json", tokenizer=["transformers", "PreTrainedTokenizerFast"])
    (to / "card.json").write_text(json.dumps(CARD, indent=2) + "\n")
    for path in to.rglob("*.safetensors"):
        path.chmod(0o644)
    size = sum(path.stat().st_size for path in to.rglob("*") if path.is_file())
    if size > MAX_BYTES:
        raise ValueError(f"{to} has {size} bytes, more than {MAX_BYTES}")
    return size


def _change(file: Path, **changes: Any) -> None:
    """Change values of a JSON file."""
    values = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps(values, indent=2, sort_keys=True) + "\n")


def main() -> None:
    """Export and print the size."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--to", type=Path, default=Path(__file__).parent / "model")
    args = parser.parse_args()
    print(f"{args.to}: {export(args.run, args.to) / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
