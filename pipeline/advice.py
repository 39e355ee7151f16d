"""What to change when a request does not fit into memory. Torch-free."""

from __future__ import annotations

from pipeline.layout import Layout
from pipeline.limits import ModelCard
from pipeline.options import EngineOptions
from pipeline.request import Request

_SHRINK = 0.71
"""Of each side: half the pixels."""


def advise(
    request: Request,
    card: ModelCard,
    options: EngineOptions,
    layout: Layout,
    *,
    in_host_memory: bool,
) -> str:
    """One sentence: what the client may ask for instead, and what the service may be started with.

    Args:
        request: the one that did not fit.
        card: the model's, by whose steps frames and sides go.
        options: as the service was started; only switches that are still off are named.
        layout: of the gang.
        in_host_memory: the device computes in the host's memory, where offloading frees nothing.
    """
    smaller = [*_fewer_frames(request, card), *_smaller_size(request, card)]
    started = [*_switches(card, options, in_host_memory=in_host_memory), *_spread(options, layout)]
    asked = f"ask for {' or '.join(smaller)}; " if smaller else ""
    return f"{asked}or start the service with {', '.join(started)}"


def _fewer_frames(request: Request, card: ModelCard) -> list[str]:
    frames = (request.num_frames - 1) // 2 // card.frame_step * card.frame_step + 1
    if not 1 < frames < request.num_frames:
        return []
    return [f"num_frames {frames} instead of {request.num_frames}"]


def _smaller_size(request: Request, card: ModelCard) -> list[str]:
    multiple = card.size_multiple
    width, height = (
        max(multiple, int(side * _SHRINK) // multiple * multiple)
        for side in (request.width, request.height)
    )
    if (width, height) == (request.width, request.height):
        return []
    return [f"size {width}x{height} instead of {request.size}"]


def _switches(card: ModelCard, options: EngineOptions, *, in_host_memory: bool) -> list[str]:
    """Offload switches that are off and would free something, then tiled decoding."""
    names = [] if in_host_memory else ["text_encoder_cpu_offload", "vae_cpu_offload"]
    if names and card.max_images:
        names.insert(1, "image_encoder_cpu_offload")
    if names and not options.use_fsdp_inference:
        names.append("dit_cpu_offload")
    off = [f"--{name.replace('_', '-')}" for name in names if not getattr(options, name)]
    return off if options.vae_tiling == "on" else [*off, "--vae-tiling on"]


def _spread(options: EngineOptions, layout: Layout) -> list[str]:
    """Weights shared out, and the sequence over more devices."""
    more = []
    if layout.gang_size > 1 and layout.tp == 1 and not options.use_fsdp_inference:
        off = " in place of --dit-cpu-offload" if options.dit_cpu_offload else ""
        more.append(f"--use-fsdp-inference{off}")
    sp = 2 * layout.sp
    gpus = sp * layout.cfg * layout.tp * layout.dp
    return [*more, f"--sp-degree {sp} --num-gpus {gpus}"]
