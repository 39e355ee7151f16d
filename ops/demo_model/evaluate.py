"""Measures a model directory: prompts right by the scorer, and the VAE's PSNR.

Run as `python -m ops.demo_model.evaluate --prompts 64 --json figures.json --sheet sheet.png`.
"""

import argparse
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKLWan, WanPipeline
from PIL import Image, ImageDraw

from ops.demo_model.render import draw, indices, scene_of, tables
from ops.demo_model.scorer import Verdict, judge
from ops.demo_model.world import FRAMES, SIZE, Combination, held_out, trained

Clip = npt.NDArray[np.uint8]
"""One clip, uint8 [F, H, W, 3]."""


@dataclass(frozen=True, slots=True)
class Sampling:
    """How clips are made; `seed` + the prompt's place seeds each clip's noise."""

    frames: int = FRAMES
    size: int = SIZE
    steps: int = 20
    guidance: float = 3.0
    seed: int = 0


def load(model: Path, device: str) -> WanPipeline:
    """The pipeline, in float32 and quiet."""
    pipeline = WanPipeline.from_pretrained(model, torch_dtype=torch.float32).to(device)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def make(pipeline: WanPipeline, prompts: list[str], how: Sampling, first: int = 0) -> list[Clip]:
    """One clip a prompt, in one batch; noise is drawn on the CPU, alike on every device."""
    seeds = [torch.Generator().manual_seed(how.seed + first + n) for n in range(len(prompts))]
    videos = pipeline(
        prompts,
        height=how.size,
        width=how.size,
        num_frames=how.frames,
        num_inference_steps=how.steps,
        guidance_scale=how.guidance,
        generator=seeds,
    ).frames
    return [(video * 255).round().astype(np.uint8) for video in videos]


def score(asked: list[Combination], verdicts: list[Verdict]) -> dict[str, Any]:
    """Counts of right clips, field by field and altogether, and what went wrong."""
    matches = [
        verdict.matches(combination) for combination, verdict in zip(asked, verdicts, strict=True)
    ]
    wrong = [
        {"prompt": combination.prompt, "judged": asdict(verdict)}
        for combination, verdict, match in zip(asked, verdicts, matches, strict=True)
        if not all(match.values())
    ]
    counts = {field: sum(match[field] for match in matches) for field in matches[0]}
    right = len(asked) - len(wrong)
    return {"prompts": len(asked), "all_right": right, **counts, "wrong": wrong}


@torch.no_grad()
def vae_decibels(vae: AutoencoderKLWan, clips: int, frames: int = FRAMES) -> list[float]:
    """PSNR in decibels of each of `clips` held-out clips sent through `vae`."""
    known, index_N4 = tables(vae.device), indices(held_out(), vae.device)
    found = []
    for n in range(clips):
        clip, _ = draw(scene_of(known, index_N4[n % len(index_N4)][None], frames))
        made = vae.decode(vae.encode(clip).latent_dist.mode()).sample
        found.append(float(-10 * ((made - clip) / 2).square().mean().log10()))
    return found


def contact_sheet(prompts: list[str], clips: list[Clip], verdicts: list[Verdict]) -> Image.Image:
    """Five frames of each clip under its prompt, red where the scorer disagrees."""
    tile, shown, columns = 72, 5, 4
    cell = (tile * shown + 8, tile + 22)
    rows = -(-len(clips) // columns)
    sheet = Image.new("RGB", (cell[0] * columns, cell[1] * rows), "white")
    pen = ImageDraw.Draw(sheet)
    for n, (prompt, clip, verdict) in enumerate(zip(prompts, clips, verdicts, strict=True)):
        x, y = n % columns * cell[0], n // columns * cell[1]
        said = (verdict.colour, verdict.shape, verdict.motion, verdict.background)
        right = all(word and word in prompt for word in said)
        pen.text((x + 2, y + 4), prompt, fill="black" if right else "red")
        for k in range(min(shown, len(clip))):
            frame = clip[round(k * (len(clip) - 1) / (shown - 1))]
            sheet.paste(Image.fromarray(frame).resize((tile, tile)), (x + k * tile, y + 18))
    return sheet


def main() -> None:
    """Make, judge, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path(__file__).parent / "model")
    parser.add_argument("--split", choices=("held-out", "trained"), default="held-out")
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--frames", type=int, default=FRAMES)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--vae-clips", type=int, default=16)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--sheet", type=Path)
    args = parser.parse_args()

    everything = held_out() if args.split == "held-out" else trained()
    asked = list(everything[:: max(1, len(everything) // args.prompts)][: args.prompts])
    prompts = [combination.prompt for combination in asked]
    how = Sampling(args.frames, args.size, args.steps, args.guidance, args.seed)
    pipeline = load(args.model, args.device)
    started = time.monotonic()
    clips: list[Clip] = []
    for first in range(0, len(prompts), args.batch):
        clips += make(pipeline, prompts[first : first + args.batch], how, first)
    seconds = time.monotonic() - started
    verdicts = [judge(clip) for clip in clips]

    torch.manual_seed(args.seed)
    decibels = vae_decibels(pipeline.vae, args.vae_clips) if args.vae_clips else []
    record = {
        "split": args.split,
        **asdict(how),
        "device": torch.cuda.get_device_name() if args.device == "cuda" else args.device,
        "seconds_per_clip": seconds / len(clips),
        **score(asked, verdicts),
        "vae_psnr_mean": float(np.mean(decibels)) if decibels else None,
        "vae_psnr_worst": min(decibels, default=None),
    }
    print(json.dumps(record, indent=2))
    if args.json:
        args.json.write_text(json.dumps(record, indent=2) + "\n")
    if args.sheet:
        contact_sheet(prompts, clips, verdicts).save(args.sheet, optimize=True)


if __name__ == "__main__":
    main()
