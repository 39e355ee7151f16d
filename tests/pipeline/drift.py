"""How far compiling and bfloat16 move a model's result: docs/TUNING.md's table.

`OMP_NUM_THREADS=1 python -m tests.pipeline.drift MODEL [PARAMS [DEVICE]]`, one model a process: PARAMS is
JSON as `Params` has it, with "images": true for an input image; DEVICE is cpu unless given.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline.layout import Layout
from pipeline.options import Device
from pipeline.parallel.ranks import Ranks, join
from pipeline.request import INPUTS
from tests.pipeline import engines

IMAGE = "a.png"


def result(
    ranks: Ranks, model: Path, folder: Path, params: dict[str, Any], *, dtype: str, compiled: bool
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """The latent and the frames."""
    torch.compiler.reset()
    engine = engines.load(ranks, model, Layout(), dtype=dtype, enable_torch_compile=compiled)
    latent = engines.latent_of(ranks, engine, params, folder / INPUTS)
    request, raw = engines.request_for(engine, **params), folder / "raw.npy"
    engine.generate(request, folder / "output", engines.Recorder(), frames_file=raw)
    return latent, np.load(raw).astype(np.int64)


def main(model: Path, params: dict[str, Any], device: Device) -> None:
    """Print what is how far from what."""
    if params.pop("images", False):
        params["images"] = (IMAGE,)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / INPUTS).mkdir()
        pixels = np.random.default_rng(0).integers(0, 256, (80, 96, 3), np.uint8)
        Image.fromarray(pixels).save(folder / INPUTS / IMAGE)
        ranks = join(rank=0, world_size=1, rendezvous=folder / "store", device=device)
        made = {
            (dtype, compiled): result(ranks, model, folder, params, dtype=dtype, compiled=compiled)
            for dtype in ("float32", "bfloat16")
            for compiled in (False, True)
        }
        ranks.leave()
    exact, half = ("float32", False), ("bfloat16", False)
    for what, beside in ((("float32", True), exact), (half, exact), (("bfloat16", True), half)):
        (latent, frames), (other, others) = made[what], made[beside]
        apart, levels = np.abs(latent - other), np.abs(frames - others)
        print(
            f"{what} beside {beside}: latent {apart.max():.2g} (mean {apart.mean():.2g}) of "
            f"{np.abs(other).max():.2g}, frames {levels.max()} ({levels.mean():.2g})"
        )


if __name__ == "__main__":
    model, params, device = (*sys.argv[1:], *("", "{}", "cpu")[len(sys.argv) - 1 :])
    main(Path(model), json.loads(params), cast("Device", device))
