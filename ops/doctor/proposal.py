"""The best layout for a model on a number of devices, and why."""

from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ops.doctor.finding import Finding, ok, problem, warning
from ops.doctor.host import GIB
from ops.doctor.hub import configs_of, parameters_of
from ops.doctor.size import Size
from pipeline.layout import Layout
from pipeline.outline import Outline

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")

_ROOM = 0.8
"""Of a device's memory for weights; the rest is for activations."""


@dataclass(frozen=True)
class Architecture:
    """What a layout depends on, read from a Diffusers directory without loading anything."""

    name: str
    heads: int
    guided: bool
    """Two branches a step (classifier-free guidance), unless the model is distilled."""
    parameters: dict[str, int]
    """Of each component."""
    tokens: int | None = None
    """Length of the sequence at the size asked for, where the family is known."""

    @classmethod
    def find(cls, model_path: str, size: Size) -> Architecture:
        """Of a Diffusers directory or of a hub id, of which only configs and headers are fetched.

        Raises:
            ValueError: no such model, or one that cannot be read.
            RequestError: a size that it cannot make.
        """
        directory = Path(model_path).expanduser()
        if directory.is_dir() or not _HUB_ID.fullmatch(model_path):
            return cls.read(directory, size)
        model = cls.read(configs_of(model_path), size)
        return replace(model, parameters=parameters_of(model_path) or model.parameters)

    @classmethod
    def read(cls, directory: Path, size: Size) -> Architecture:
        """Read `model_index.json`, the transformer's config and the headers of the weights.

        Raises:
            ValueError: no Diffusers directory, or one that cannot be read.
            RequestError: a size that it cannot make.
        """
        try:
            index = json.loads((directory / "model_index.json").read_text())
            transformer = json.loads((directory / "transformer" / "config.json").read_text())
            heads = int(transformer["num_attention_heads"])
        except (OSError, KeyError, ValueError) as error:
            raise ValueError(
                f"{directory} is no Diffusers directory with a transformer: {error}"
            ) from error
        counts = {
            name: sum(map(_parameters, (directory / name).glob("*.safetensors")))
            for name in index
            if (directory / name).is_dir()
        }
        return cls(
            name=str(index.get("_class_name", directory.name)),
            heads=heads,
            guided=Outline.read(str(directory)).guided,
            parameters={name: count for name, count in counts.items() if count},
            tokens=size.tokens(directory, transformer),
        )


def propose(model: Architecture, num_gpus: int, memory_bytes: int | None) -> list[Finding]:
    """Layout, what it does to memory, and the command line; `memory_bytes` are one device's."""
    layout, reasons = choose(model, num_gpus)
    if model.tokens is not None and layout.sp > 1:
        reasons.append(f"{model.tokens} tokens at this size, {model.tokens // layout.sp} a rank")
    switches, memory = _fit(model, layout, memory_bytes)
    flags = [f"--num-gpus {num_gpus}"]
    flags += ["--enable-cfg-parallel"] * (layout.cfg > 1)
    flags += [f"--ulysses-degree {layout.ulysses}"] * (layout.sp > 1)
    flags += [f"--ring-degree {layout.ring}"] * (layout.ring > 1)
    what = f"{model.name}: {layout}; {'; '.join(reasons)}"
    command = f"rushes serve --model-path ... {' '.join([*flags, *switches])}"
    if model.tokens is not None and model.tokens < layout.sp:
        few = f"{model.tokens} tokens are too few for {layout.sp} ranks"
        return [problem("layout", few, "fewer --num-gpus, or a larger --width and --height")]
    return [ok("layout", what), *memory, ok("layout", command)]


def choose(model: Architecture, num_gpus: int) -> tuple[Layout, list[str]]:
    """The layout with the shortest time for one request, and the reasons in words.

    Branches apart first: one exchange a step, 1.98 times as fast on two H100. Then Ulysses, which
    sends less than a ring from three ranks on (USP, arXiv:2405.07719). A ring takes what heads do
    not divide by.
    """
    cfg = 2 if model.guided and num_gpus % 2 == 0 else 1
    sp = num_gpus // cfg
    ulysses = math.gcd(sp, model.heads)
    layout = Layout(cfg=cfg, ulysses=ulysses, ring=sp // ulysses)
    reasons = []
    if cfg == 2:
        reasons.append("cfg 2: the two branches of a step need one exchange")
    elif not model.guided:
        reasons.append("cfg 1: the model is not guided, a step has one branch")
    elif num_gpus > 1:
        reasons.append(f"cfg 1: {num_gpus} devices do not halve")
    if ulysses > 1:
        reasons.append(f"ulysses {ulysses}: divides {model.heads} heads, the least traffic")
    if layout.ring > 1:
        reasons.append(f"ring {layout.ring}: what is left, {model.heads} heads do not divide by it")
    if num_gpus == 1:
        reasons.append("one device, nothing to share out")
    return layout, reasons


def _fit(
    model: Architecture, layout: Layout, memory_bytes: int | None
) -> tuple[list[str], list[Finding]]:
    """Switches that make the weights fit, in the order of what they cost."""
    sizes = {name: 2 * count for name, count in model.parameters.items()}  # bfloat16
    if memory_bytes is None or not sizes:
        return [], []
    room, total = _ROOM * memory_bytes, sum(sizes.values())
    resident = sum(size for name, size in sizes.items() if name.startswith("transformer"))
    text = f"{total / GIB:.1f} GiB of weights, {memory_bytes / GIB:.0f} GiB a device"
    if total <= room:
        return [], [ok("memory", f"{text}: fits")]
    encoders = ["--text-encoder-cpu-offload", "--vae-cpu-offload"]
    if resident <= room:
        return encoders, [ok("memory", f"{text}: encoders and VAE stay in CPU memory")]
    if layout.gang_size > 1 and resident / layout.gang_size <= room:
        switches = [*encoders, "--use-fsdp-inference"]
        return switches, [ok("memory", f"{text}: the transformer is sharded over the gang")]
    slow = "the transformer comes block by block, which is slow"
    switches = [*encoders, "--dit-cpu-offload", "--pin-cpu-memory"]
    return switches, [warning("memory", f"{text}: {slow}", "more devices, or larger ones")]


def _parameters(file: Path) -> int:
    """Numbers in a safetensors file, by its header (a length of 8 bytes, then JSON)."""
    with file.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header: dict[str, Any] = json.loads(stream.read(length))
    return sum(
        math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__"
    )
