"""The training set: clips drawn and encoded on the device, kept as latents and renewed in place."""

import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
from diffusers import AutoencoderKLWan
from safetensors.torch import load_file
from torch import Tensor

from ops.demo_model.loop import compiled
from ops.demo_model.models import new_vae
from ops.demo_model.render import Tables, draw, indices, scene_of, tables
from ops.demo_model.whole import encode, norm_act, use_whole_sequence
from ops.demo_model.world import SIZE, combinations, trained


def load_vae(run: Path) -> AutoencoderKLWan:
    """The VAE of a training run's folder, with its latent statistics in its config, on the CPU."""
    record = json.loads((run / "vae.json").read_text())
    vae = new_vae(latents_mean=record["latents_mean"], latents_std=record["latents_std"])
    weights = load_file(run / "vae.safetensors")
    vae.load_state_dict({key: value.float() for key, value in weights.items()})
    return vae


@dataclass(slots=True)
class LatentSource:
    """Draws trained combinations and encodes them to normalised latents."""

    vae: AutoencoderKLWan
    device: torch.device
    size: int = SIZE
    known: Tables = field(init=False)
    rows_N4: Tensor = field(init=False)
    number_N: Tensor = field(init=False)
    mean: Tensor = field(init=False)
    scale: Tensor = field(init=False)

    def __post_init__(self) -> None:
        self.known = tables(self.device)
        everything = combinations()
        self.rows_N4 = indices(trained(), self.device)
        numbers = [everything.index(combination) for combination in trained()]
        self.number_N = torch.tensor(numbers, device=self.device)
        use_whole_sequence(self.vae, compiled(norm_act, self.device, dynamic=False))
        self.vae.to(self.device).requires_grad_(False)
        broad = (1, -1, 1, 1, 1)
        config = self.vae.config
        self.mean = torch.tensor(config.latents_mean, device=self.device).view(broad)
        self.scale = 1 / torch.tensor(config.latents_std, device=self.device).view(broad)

    @torch.no_grad()
    def draw(self, batch: int, frames: int) -> tuple[Tensor, Tensor]:
        """Latents bfloat16 [B, 16, T, H / 8, W / 8] and the combinations' numbers int64 [B]."""
        pick_B = torch.randint(len(self.rows_N4), (batch,), device=self.device)
        clip, _ = draw(scene_of(self.known, self.rows_N4[pick_B], frames), self.size)
        kind = self.device.type
        with torch.autocast(kind, torch.bfloat16, enabled=kind == "cuda"):
            mean, logvar = encode(self.vae, clip.contiguous(memory_format=torch.channels_last_3d))
        latent = mean + (0.5 * logvar).exp() * torch.randn_like(mean)
        latent = (latent - self.mean) * self.scale
        return latent.to(torch.bfloat16).contiguous(), self.number_N[pick_B]


@dataclass(slots=True)
class LatentCache:
    """`count` latents of clips of `frames` frames in fixed memory; `renew` replaces the oldest."""

    source: LatentSource
    count: int
    frames: int
    chunk: int
    latents: Tensor = field(init=False)
    numbers: Tensor = field(init=False)
    place: int = 0

    def __post_init__(self) -> None:
        latents, numbers = self.source.draw(self.chunk, self.frames)
        self.latents = latents.new_zeros(self.count, *latents.shape[1:])
        self.numbers = numbers.new_zeros(self.count)
        for _ in range(0, self.count, self.chunk):
            self.renew()

    def renew(self) -> None:
        """Replace the oldest `chunk` clips by new ones."""
        here = slice(self.place, self.place + self.chunk)
        latents, numbers = self.source.draw(self.chunk, self.frames)
        self.latents[here], self.numbers[here] = latents, numbers
        self.place = (self.place + self.chunk) % self.count
