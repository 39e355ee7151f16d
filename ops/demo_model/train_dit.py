"""Trains the denoiser and the text encoder together, on latents of the VAE of the same run.

Run as `python -m ops.demo_model.train_dit --run runs/demo`. Reads `vae.safetensors` and
`vae.json`, writes `transformer.safetensors`, `text_encoder.safetensors` (bfloat16, averaged
weights) and `dit.json` beside them.
"""

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ops.demo_model.captions import VARIANTS
from ops.demo_model.flow import Block, block, denoise, encode_text, pad_bias
from ops.demo_model.latents import LatentCache, LatentSource, load_vae
from ops.demo_model.loop import Body, Clock, Optimizer, capture, compiled
from ops.demo_model.models import (
    END,
    FLOW_SHIFT,
    TEXT_SLOTS,
    caption_table,
    new_text_encoder,
    new_transformer,
)
from ops.demo_model.train_vae import round_weights
from ops.demo_model.world import FRAMES, SIZE

DROPPED = 0.1
"""Share of captions left out, so that guidance has something to lead away from."""

LONG_FRAMES = 33


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of training step: a batch from one cache, cut to `latent_frames`."""

    name: str
    cache: LatentCache
    latent_frames: int
    batch: int
    every: int


class Learner(nn.Module):
    """Text encoder and denoiser as one module with one loss."""

    def __init__(self, table: Tensor, run_block: Block) -> None:
        super().__init__()
        self.text_encoder = new_text_encoder()
        self.transformer = new_transformer()
        self.table = table
        # Pads of a text of 24, 226 or 512 tokens, the lengths that pipelines use.
        self.pads = torch.tensor([1.0, 203.0, 489.0], device=table.device)
        self.run_block = run_block

    def loss(self, latents: Tensor, numbers: Tensor) -> Tensor:
        """Mean squared error of the flow for latents [B, 16, T, H, W] of combinations [B]."""
        device, batch = latents.device, len(latents)
        ids_BN = self.table[numbers, torch.randint(VARIANTS, (batch,), device=device)]
        nothing_N = (torch.arange(TEXT_SLOTS, device=device) == 0) * END
        ids_BN = torch.where(torch.rand(batch, 1, device=device) < DROPPED, nothing_N, ids_BN)
        text_BND = encode_text(self.text_encoder, ids_BN)
        bias = pad_bias(ids_BN, self.pads[torch.randint(3, (batch,), device=device)])

        noise = torch.randn_like(latents)
        level_B = noise_levels(batch, device)
        level = level_B[:, None, None, None, None]
        mixed = (1 - level) * latents + level * noise
        kind = device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda", cache_enabled=False):
            flow = denoise(self.transformer, mixed, level_B * 1000, text_BND, bias, self.run_block)
        return (flow.float() - (noise - latents)).square().mean()


def noise_levels(batch: int, device: torch.device) -> Tensor:
    """Noise levels in 0..1 [B]: logit-normal, a tenth uniform, shifted as in inference."""
    normal = torch.randn(batch, device=device).sigmoid()
    flat = torch.rand(batch, device=device)
    level = torch.where(torch.rand(batch, device=device) < 0.1, flat, normal)
    return FLOW_SHIFT * level / (1 + (FLOW_SHIFT - 1) * level)


def step_of(kind: Kind, learner: Learner, optimizer: Optimizer, shown: Tensor) -> Body:
    """Forward and backward of one kind of step, captured."""
    cache = kind.cache

    def body() -> None:
        optimizer.clear()
        pick = torch.randint(cache.count, (kind.batch,), device=shown.device)
        latents = cache.latents[pick, :, : kind.latent_frames].float()
        loss = learner.loss(latents, cache.numbers[pick])
        loss.backward()  # type: ignore[no-untyped-call]
        shown.copy_(loss.detach())

    return capture(body, shown.device, f"dit {kind.name}")


def train(
    learner: Learner, kinds: list[Kind], optimizer: Optimizer, until: float, limit: int | None
) -> int:
    """Run the loop until the monotonic clock shows `until`, or for `limit` iterations.

    Returns the iterations run.
    """
    device = optimizer.device
    shown = {kind.name: torch.zeros((), device=device) for kind in kinds}
    steps = [(kind, step_of(kind, learner, optimizer, shown[kind.name])) for kind in kinds]
    update = capture(optimizer.step, device, "dit update")
    clock = Clock(1e-3, until - time.monotonic(), 0.1, 300, device, limit)
    while (fraction := clock.fraction()) < 1:
        if clock.iteration % 1000 == 0:
            figures = " ".join(f"{name} {value.item():.4f}" for name, value in shown.items())
            print(f"dit {clock.iteration} {fraction:.2f} {figures}", flush=True)
        for _ in range(25 if limit is None else min(25, limit)):
            optimizer.rate.fill_(clock.rate(fraction))
            # The last kind whose turn it is, so the first is the common one.
            step = [s for kind, s in steps if clock.iteration % kind.every == kind.every - 1][-1]
            step()
            update()
            clock.iteration += 1
        if clock.iteration % 250 == 0:
            for cache in {id(kind.cache): kind.cache for kind in kinds}.values():
                cache.renew()
    rate = clock.iteration / (time.monotonic() - clock.started)
    print(f"dit: {clock.iteration} iterations, {rate:.1f} it/s", flush=True)
    return clock.iteration


def main() -> None:
    """Make the latents, train, save the averaged weights."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--size", type=int, default=SIZE)
    parser.add_argument("--clips", type=int, default=32768)
    parser.add_argument("--long-clips", type=int, default=4096)
    parser.add_argument("--chunk", type=int, default=256)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--deadline", type=float, default=480, help="seconds, start-up included")
    parser.add_argument("--limit", type=int, help="iterations, in place of seconds")
    args = parser.parse_args()
    started = time.monotonic()
    device = torch.device(args.device)
    torch.manual_seed(args.seed)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")

    source = LatentSource(load_vae(args.run), device, args.size)
    short = LatentCache(source, args.clips, FRAMES, args.chunk)
    long = LatentCache(source, args.long_clips, LONG_FRAMES, max(1, args.chunk // 8))
    print(f"latents: {time.monotonic() - started:.1f} s", flush=True)

    learner = Learner(caption_table(args.seed, device), compiled(block, device)).to(device)
    optimizer = Optimizer(list(learner.parameters()), device, weight_decay=0.01, ema_decay=0.999)
    kinds = [
        Kind("clips", short, 5, args.batch, 1),
        Kind("images", short, 1, args.batch, 10),
        Kind("long", long, 9, max(1, args.batch // 2), 13),
        Kind("brief", short, 3, args.batch, 21),
    ]
    began = time.monotonic()
    iterations = train(learner, kinds, optimizer, started + args.deadline, args.limit)
    optimizer.use_average()
    for name in ("transformer", "text_encoder"):
        save_file(round_weights(getattr(learner, name)), args.run / f"{name}.safetensors")
    record = {
        "iterations": iterations,
        "loop_seconds": time.monotonic() - began,
        "seconds": time.monotonic() - started,
        "seed": args.seed,
        "batch": args.batch,
        "clips": args.clips,
    }
    (args.run / "dit.json").write_text(json.dumps(record, indent=2))
    print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
