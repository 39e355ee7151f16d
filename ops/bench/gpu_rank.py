"""One rank of the rows of `rushes bench gpu` that no gang of ours is: `python -m ops.bench.gpu_rank`.

`diffusers`: diffusers' own pipeline with its own Ulysses over all ranks. `shared`: an engine of ours
whose ranks share the first device, which a gang never does: NCCL refuses it, gloo does not.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from diffusers import ContextParallelConfig, WanPipeline

from pipeline.engine import Engine
from pipeline.layout import Layout
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks, join
from pipeline.platforms import find
from pipeline.request import Request
from pipeline.stages.control import Silent


def main() -> None:
    """Generate twice, the first time to warm up; rank 0 prints what it saw and keeps the frames."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=("diffusers", "shared"))
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--world-size", type=int, required=True)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--options", type=EngineOptions.model_validate_json, required=True)
    parser.add_argument("--request", type=Request.model_validate_json, required=True)
    given = parser.parse_args()
    place = {
        "rank": given.rank,
        "world_size": given.world_size,
        "rendezvous": given.folder / "rendezvous",
        "device": given.options.device,
    }
    ranks = join(**place) if given.kind == "diffusers" else join_on_the_first(**place)
    run = theirs if given.kind == "diffusers" else ours
    step_s, decoding_s = run(ranks, given.options, given.request, given.folder)
    peaks = ranks.gather_text(str(ranks.platform.peak_memory_bytes(ranks.device)))
    if ranks.rank == 0:
        peak = max(map(int, peaks))
        print(json.dumps({"step_s": step_s, "decoding_s": decoding_s, "peak_memory_bytes": peak}))
    ranks.leave()


def join_on_the_first(**place: Any) -> Ranks:
    """Join with every rank on the device of rank 0."""
    platform = type(find(place["device"]))
    enter = platform.enter

    def first(self: Any, rank: int, world_size: int) -> torch.device:
        del rank
        return enter(self, 0, world_size)

    with mock.patch.object(platform, "enter", first):
        return join(**place)


def ours(
    ranks: Ranks, options: EngineOptions, request: Request, folder: Path
) -> tuple[float, float]:
    """Seconds of a step and of decoding, by Ulysses over all ranks."""
    engine = Engine.load(options, Layout(ulysses=ranks.world_size), ranks)
    frames, timings = folder / "frames.npy", {}
    for _ in range(2):
        ranks.platform.reset_peak_memory(ranks.device)
        made = engine.generate(request, folder / "video.mp4", Silent(), frames_file=frames)
        timings = {} if made is None else made.timings_s
    steps = request.num_inference_steps
    return timings.get("denoising", 0.0) / steps, timings.get("decoding", 0.0)


def theirs(
    ranks: Ranks, options: EngineOptions, request: Request, folder: Path
) -> tuple[float, float]:
    """The same of diffusers' own; a step as the mean of all but the first, whose start is not told."""
    dtype = getattr(torch, options.dtype) if options.dtype else ranks.platform.default_dtype
    pipe: Any = WanPipeline.from_pretrained(
        options.model_path, dtype={"default": dtype, "vae": torch.float32}
    )
    pipe.to(ranks.device)
    pipe.set_progress_bar_config(disable=True)
    ulysses = ContextParallelConfig(ulysses_degree=ranks.world_size)
    # It takes the rank modulo the accelerators, also on a CPU, which has none.
    with mock.patch.object(torch.accelerator, "device_count", ranks.platform.count):
        pipe.transformer.enable_parallelism(config=ulysses)
    ends: list[float] = []

    def note(_pipe: Any, _step: int, _timestep: Any, kept: dict[str, Any]) -> dict[str, Any]:
        ranks.platform.synchronize(ranks.device)
        ends.append(time.perf_counter())
        return kept

    for _ in range(2):
        ends.clear()
        ranks.platform.reset_peak_memory(ranks.device)
        pixels = pipe(
            prompt=request.prompt,
            negative_prompt=request.negative_prompt,
            height=request.height,
            width=request.width,
            num_frames=request.num_frames,
            num_inference_steps=request.num_inference_steps,
            guidance_scale=request.guidance_scale,
            generator=torch.Generator().manual_seed(request.seed),
            callback_on_step_end=note,
            output_type="np",
        ).frames[0]
        decoding_s = time.perf_counter() - ends[-1]
    if ranks.rank == 0:
        np.save(folder / "frames.npy", (pixels * 255).round().astype(np.uint8))
    return (ends[-1] - ends[0]) / max(1, len(ends) - 1), decoding_s


if __name__ == "__main__":
    main()
