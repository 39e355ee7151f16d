"""Which of a pipeline's components stay on the device, and how the others come and go."""

from __future__ import annotations

from typing import Any

from diffusers.hooks import apply_group_offloading
from torch import nn

from pipeline.memory.guests import Guests
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks

_SWITCHES = {
    "text_encoder": "text_encoder_cpu_offload",
    "image_encoder": "image_encoder_cpu_offload",
    "vae": "vae_cpu_offload",
    "transformer": "dit_cpu_offload",
}
"""What a component's name begins with -> the option that sends it to CPU memory."""


def place(pipe: Any, options: EngineOptions, ranks: Ranks) -> tuple[str, ...]:
    """Put every component of a diffusers pipeline where it shall be between calls.

    Encoders and VAE come to the device as a whole while they are in use, a transformer block by
    block, the next one on the way while one computes where the device has streams.

    Returns:
        What the options ask for and what has nothing to do here, in words.

    Raises:
        ValueError: a component that is sharded over ranks cannot be offloaded.
    """
    components: dict[str, nn.Module] = {
        name: component
        for name, component in pipe.components.items()
        if isinstance(component, nn.Module)
    }
    offloaded = {name for name in components if _is_offloaded(name, options)}
    notes = _idle_switches(components, options, ranks)
    if ranks.platform.in_host_memory:
        offloaded = set()
    guests = Guests(ranks.device, pinned=options.pin_cpu_memory)
    for name, component in components.items():
        if name not in offloaded:
            component.to(ranks.device)
        elif not name.startswith("transformer"):
            guests.add(component)
        else:
            _offload_blocks(component, options, ranks)
    for name, component in components.items():
        if name.startswith("transformer"):
            guests.make_room_for(component)
    return notes


def _is_offloaded(name: str, options: EngineOptions) -> bool:
    return any(
        getattr(options, switch) for prefix, switch in _SWITCHES.items() if name.startswith(prefix)
    )


def _offload_blocks(transformer: nn.Module, options: EngineOptions, ranks: Ranks) -> None:
    streams = ranks.platform.has_streams
    apply_group_offloading(
        transformer,
        onload_device=ranks.device,
        offload_type="block_level",
        num_blocks_per_group=1,
        use_stream=streams,
        record_stream=streams,
        # Else a transfer by stream pins all weights ahead.
        low_cpu_mem_usage=not options.pin_cpu_memory,
    )


def _idle_switches(
    components: dict[str, nn.Module], options: EngineOptions, ranks: Ranks
) -> tuple[str, ...]:
    asked = {prefix: name for prefix, name in _SWITCHES.items() if getattr(options, name)}
    notes = []
    for prefix, name in asked.items():
        if not any(component.startswith(prefix) for component in components):
            notes.append(f"{name} has nothing to do: the model has no {prefix}")
        elif ranks.platform.in_host_memory:
            notes.append(f"{name} has nothing to do: a {ranks.platform.kind} is in CPU memory")
    if options.pin_cpu_memory and (not asked or ranks.platform.in_host_memory):
        notes.append("pin_cpu_memory has nothing to do: no weights are offloaded")
    return tuple(notes)
