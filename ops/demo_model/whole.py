"""Wan's VAE over the whole sequence at once, for training: the same function, many times faster.

Diffusers' `encode` and `decode` walk through a clip in chunks and carry the causal convolutions'
past in a cache. Without the cache every block but `WanResample` already treats its input as one
whole clip; so that block, and for speed the residual block, get another forward pass here. The
layers and their names stay, and so do the checkpoints.

Letters in names: B clips, C channels, T frames at that depth.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, Final, cast

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import WanResample, WanResidualBlock
from torch import Tensor, nn

NormAct = Callable[[Tensor, Tensor], Tensor]
"""Features [B, C, T, H, W] and gains [C, 1, 1, 1] to activated features of the same shape."""

START_LOGVAR: Final = -5.0


def use_whole_sequence(vae: AutoencoderKLWan, norm_act: NormAct) -> None:
    """Give `vae` forward passes for whole clips; undone only by building it anew."""
    for module in vae.modules():
        if isinstance(module, WanResample):
            setattr(module, "forward", partial(_resample, module))  # noqa: B010
        elif isinstance(module, WanResidualBlock):
            setattr(module, "forward", partial(_residual, module, norm_act))  # noqa: B010


def encode(vae: AutoencoderKLWan, clip_B3TXX: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance [B, 16, 1 + (T - 1) / 4, H / 8, W / 8] of clips in -1..1."""
    mean, logvar = vae.quant_conv(vae.encoder(clip_B3TXX)).float().chunk(2, dim=1)
    return mean, logvar.clamp(-30, 20)


def decode(vae: AutoencoderKLWan, latent: Tensor) -> Tensor:
    """Clips [B, 3, T, H, W] of unnormalised latents, not clamped to -1..1."""
    return cast("Tensor", vae.decoder(vae.post_quant_conv(latent)))


def norm_act(x_BCTHW: Tensor, gain: Tensor) -> Tensor:
    """Wan's RMS norm over channels followed by SiLU, computed in float32."""
    wide = x_BCTHW.permute(0, 2, 3, 4, 1).float()
    length = wide.square().sum(-1, keepdim=True).sqrt().clamp_min(1e-12)
    scale = wide.shape[-1] ** 0.5
    normal = wide / length * scale * gain.flatten()
    return F.silu(normal).to(x_BCTHW.dtype).permute(0, 4, 1, 2, 3)


@torch.no_grad()
def initialise(vae: AutoencoderKLWan) -> None:
    """Start where training succeeds: little noise in the latent, and time passed straight through.

    With the default log-variance the posterior collapses. With the past's taps at zero a VAE
    trained on single frames works on clips at once.
    """
    for module in vae.modules():
        if isinstance(module, nn.Conv3d) and module.kernel_size == (3, 3, 3):
            module.weight[:, :, :2] = 0
            module.weight[:, :, 2] *= 3**0.5
        time_conv = getattr(module, "time_conv", None)
        if time_conv is not None:
            channels = time_conv.in_channels
            time_conv.weight.zero_()
            time_conv.bias.zero_()
            for part in time_conv.weight.split(channels):
                part[:, :, 2, 0, 0] = torch.eye(channels)
    quant = vae.quant_conv
    half = quant.out_channels // 2
    quant.weight[:half] *= 2
    quant.weight[half:] *= 0.1
    quant.bias[half:] = START_LOGVAR


def _residual(block: WanResidualBlock, act: NormAct, x: Tensor, *_: Any, **__: Any) -> Tensor:
    shortcut = block.conv_shortcut(x)
    x = block.conv1(act(x, block.norm1.gamma))
    x = block.conv2(act(x, block.norm2.gamma))
    return cast("Tensor", x + shortcut)


def _resample(layer: WanResample, x_BCTHW: Tensor, *_: Any, **__: Any) -> Tensor:
    if layer.mode == "upsample3d":
        x_BCTHW = _double_time(layer, x_BCTHW)
    batch, channels, frames, height, width = x_BCTHW.shape
    flat = x_BCTHW.permute(0, 2, 1, 3, 4).reshape(batch * frames, channels, height, width)
    if layer.mode.startswith("upsample"):
        flat = F.interpolate(flat, scale_factor=2.0, mode="nearest-exact")
        flat = layer.resample[1](flat)
    else:
        flat = layer.resample(flat)
    x_BCTHW = flat.view(batch, frames, *flat.shape[1:]).permute(0, 2, 1, 3, 4)
    if layer.mode == "downsample3d" and frames > 1:
        x_BCTHW = torch.cat([x_BCTHW[:, :, :1], layer.time_conv(x_BCTHW)], dim=2)
    return x_BCTHW


def _double_time(layer: WanResample, x_BCTHW: Tensor) -> Tensor:
    """The first frame stays one, each later frame becomes two."""
    first, rest = x_BCTHW[:, :, :1], x_BCTHW[:, :, 1:]
    if rest.shape[2] == 0:
        return first
    batch, channels, frames, height, width = rest.shape
    pairs = layer.time_conv(rest).view(batch, 2, channels, frames, height, width)
    doubled = torch.stack(pairs.unbind(1), dim=3).reshape(
        batch, channels, 2 * frames, height, width
    )
    return torch.cat([first, doubled], dim=2)
