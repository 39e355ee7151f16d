"""Trains the VAE: single frames first, then whole clips.

Run as `python -m ops.demo_model.train_vae --out runs/demo`. Writes `vae.safetensors` (bfloat16)
and `vae.json` (latent statistics and figures) to the folder.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import save_file
from torch import Tensor

from ops.demo_model.loop import Clock, Optimizer, capture, compiled
from ops.demo_model.models import new_vae
from ops.demo_model.render import draw, indices, random_scene, scene_of, tables
from ops.demo_model.whole import decode, encode, initialise, norm_act, use_whole_sequence
from ops.demo_model.world import FRAMES, SIZE, held_out, trained


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of training; `seconds` of loop, or `limit` iterations where given."""

    name: str
    frames: int
    batch: int
    peak: float
    seconds: float
    limit: int | None = None
    flat: float = 0.4
    log_every: int = 20


def losses(vae: AutoencoderKLWan, clip: Tensor, cover: Tensor) -> Tensor:
    """What is minimised for clips [B, 3, F, H, W] in -1..1 with shapes where `cover` is 1.

    Shapes count four times: they are a tenth of the picture and all of what it says.
    """
    device = clip.device.type
    with torch.autocast(device, torch.bfloat16, enabled=device == "cuda", cache_enabled=False):
        mean, logvar = encode(vae, clip)
        latent = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
        made = decode(vae, latent.contiguous(memory_format=torch.channels_last_3d))
    error = made.float() - clip
    weight = 1 + 3 * cover
    level = (weight * error.abs()).mean() + 0.5 * (weight * error.square()).mean()
    slope = error.diff(dim=3).abs().mean() + error.diff(dim=4).abs().mean()
    spread = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return level + 0.25 * slope + 2e-5 * spread


def train(vae: AutoencoderKLWan, phase: Phase, device: torch.device, size: int) -> int:
    """Run one phase; returns its iterations."""
    optimizer = Optimizer(list(vae.parameters()), device)
    shown = torch.zeros((), device=device)
    known = tables(device)

    def body() -> None:
        optimizer.clear()
        with torch.no_grad():
            clip, cover = draw(random_scene(known, phase.batch, phase.frames), size)
            clip = clip.contiguous(memory_format=torch.channels_last_3d)
        loss = losses(vae, clip, cover)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        shown.copy_(loss.detach())

    step = capture(body, device, f"vae {phase.name}")
    clock = Clock(phase.peak, phase.seconds, phase.flat, 100, device, phase.limit)
    while (fraction := clock.fraction()) < 1:
        if clock.iteration % (phase.log_every * 25) == 0:
            print(
                f"vae {phase.name} {clock.iteration} {fraction:.2f} {shown.item():.4f}", flush=True
            )
        for _ in range(phase.log_every if phase.limit is None else 1):
            optimizer.rate.fill_(clock.rate(fraction))
            step()
            clock.iteration += 1
    seconds = time.monotonic() - clock.started
    print(
        f"vae {phase.name}: {clock.iteration} iterations, {clock.iteration / seconds:.1f} it/s, "
        f"loss {shown.item():.4f}",
        flush=True,
    )
    return clock.iteration


@torch.no_grad()
def psnr(vae: AutoencoderKLWan, clips: int, device: torch.device, size: int) -> list[float]:
    """Decibels of each of `clips` held-out clips, sent through `vae` in float32."""
    known, index_N4 = tables(device), indices(held_out(), device)
    found: list[float] = []
    for start in range(0, clips, 16):
        rows = torch.arange(start, min(start + 16, clips), device=device) % len(index_N4)
        clip, _ = draw(scene_of(known, index_N4[rows]), size)
        made = decode(vae, encode(vae, clip)[0]).clamp(-1, 1)
        error_B = ((made - clip) / 2).square().flatten(1).mean(1)
        found += (-10 * error_B.log10()).tolist()
    return found


@torch.no_grad()
def statistics(
    vae: AutoencoderKLWan, clips: int, device: torch.device, size: int
) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each latent channel over sampled latents of trained clips."""
    known, index_N4 = tables(device), indices(trained(), device)
    total, squares, count = torch.zeros(16), torch.zeros(16), 0
    for _ in range(0, clips, 32):
        rows = torch.randint(len(index_N4), (32,), device=device)
        mean, logvar = encode(vae, draw(scene_of(known, index_N4[rows]), size)[0])
        total += mean.sum((0, 2, 3, 4)).cpu()
        squares += (mean.square() + logvar.exp()).sum((0, 2, 3, 4)).cpu()
        count += mean.numel() // 16
    mean_C = total / count
    return mean_C.tolist(), (squares / count - mean_C.square()).sqrt().tolist()


def ready(device: torch.device, act: Callable[[Tensor, Tensor], Tensor]) -> AutoencoderKLWan:
    """A fresh VAE on `device`, laid out for speed."""
    vae = new_vae()
    initialise(vae)
    use_whole_sequence(vae, act)
    vae.to(device)
    for parameter in vae.parameters():
        if parameter.dim() == 5:
            parameter.data = parameter.data.contiguous(memory_format=torch.channels_last_3d)
    return vae


def round_weights(module: torch.nn.Module) -> dict[str, Tensor]:
    """The weights in bfloat16, and `module` left with just those values."""
    weights = {k: v.detach().to(torch.bfloat16) for k, v in module.state_dict().items()}
    module.load_state_dict({k: v.float() for k, v in weights.items()})
    return {k: v.contiguous().cpu() for k, v in weights.items()}


def main() -> None:
    """Train both phases and save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--image-batch", type=int, default=128)
    parser.add_argument("--clip-batch", type=int, default=16)
    parser.add_argument("--image-seconds", type=float, default=80)
    parser.add_argument("--clip-seconds", type=float, default=340)
    parser.add_argument("--deadline", type=float, default=560, help="seconds, start-up included")
    parser.add_argument("--limit", type=int, help="iterations a phase, in place of seconds")
    parser.add_argument("--checks", type=int, default=64, help="clips to measure PSNR on")
    args = parser.parse_args()
    started = time.monotonic()
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")

    vae = ready(device, compiled(norm_act, device, dynamic=False))
    images = Phase("images", 1, args.image_batch, 1e-3, args.image_seconds, args.limit)
    counts = [train(vae, images, device, args.size)]
    left = args.deadline - (time.monotonic() - started) - 45
    clips = Phase("clips", FRAMES, args.clip_batch, 8e-4, min(args.clip_seconds, left), args.limit)
    counts.append(train(vae, clips, device, args.size))

    use_whole_sequence(vae, norm_act)
    weights = round_weights(vae)
    args.out.mkdir(parents=True, exist_ok=True)
    save_file(weights, args.out / "vae.safetensors")
    means, deviations = statistics(vae, min(2048, args.checks * 32), device, args.size)
    decibels = psnr(vae, args.checks, device, args.size)
    record = {
        "latents_mean": means,
        "latents_std": deviations,
        "psnr_mean": sum(decibels) / len(decibels),
        "psnr_worst": min(decibels),
        "phases": [asdict(images), asdict(clips)],
        "iterations": counts,
        "seed": args.seed,
        "seconds": time.monotonic() - started,
    }
    (args.out / "vae.json").write_text(json.dumps(record, indent=2))
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
