"""Tell `rushes doctor`, in one JSON line, what torch can do here: `python -m pipeline.platforms.details`."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import sys
from typing import Any

import torch
import torch.distributed as dist

from pipeline.platforms import Platform, find

_EXTENSIONS = {
    "intel_extension_for_pytorch": "intel-extension-for-pytorch",
    "oneccl_bindings_for_pytorch": "oneccl_bind_pt",
}
_BACKENDS = ("xccl", "nccl", "gloo")


def details(platform: Platform) -> dict[str, Any]:
    """What is there, JSON-ready; nothing is installed or loaded that could change it."""
    return {
        "torch": str(torch.__version__),
        "build": _build(),
        "device": platform.kind,
        "devices": _devices(platform),
        "backend": platform.backend,
        "backends": [name for name in _BACKENDS if dist.is_backend_available(name)],
        "extensions": {
            module: importlib.metadata.version(name)
            for module, name in _EXTENSIONS.items()
            if importlib.util.find_spec(module) is not None
        },
        "attention": _attention(platform),
        "ring": _ring(platform),
    }


def _build() -> str:
    if torch.version.cuda:
        return f"CUDA {torch.version.cuda}"
    if xpu := getattr(torch.version, "xpu", None):
        return f"XPU {xpu}"
    return "CPU"


def _devices(platform: Platform) -> list[dict[str, Any]]:
    if platform.in_host_memory:
        device = platform.enter(0, 1)
        return [{"name": platform.name(device), "memory_bytes": platform.memory_bytes(device)}]
    devices = [torch.device(platform.kind, index) for index in range(platform.count())]
    return [
        {"name": platform.name(device), "memory_bytes": platform.memory_bytes(device)}
        for device in devices
    ]


def _attention(platform: Platform) -> dict[str, str]:
    """Operators by the guide's words -> why they cannot serve, empty for those that can."""
    from pipeline.attention import choose  # it loads diffusers

    device = platform.enter(0, 1)
    found = {}
    for name in ("sdpa", "fa2", "fa3", "sage"):
        try:
            choose(name, platform, device)
            found[name] = ""
        except ValueError as error:
            found[name] = str(error)
    return found


def _ring(platform: Platform) -> dict[str, str]:
    """Aten's operators for the ring, in the order of preference -> what is wrong, empty if nothing.

    Up to the first that is right, for heads as wide as Wan's and FLUX.2's.
    """
    from pipeline.parallel.lse import problem

    device, found = platform.enter(0, 1), dict[str, str]()
    for name in platform.lse_operators:
        found[name] = problem(name, device, 128, platform.default_dtype)
        if not found[name]:
            break
    return found


def main() -> int:
    """Print the line; 1 with one line on stderr if the device asked for is not there."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.platforms.details")
    parser.add_argument("--device", choices=("xpu", "cuda", "cpu"))
    try:
        found = details(find(parser.parse_args().device))
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
