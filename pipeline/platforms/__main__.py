"""Tell a torch-free parent, in one JSON line, which devices are there and that they can be used."""

from __future__ import annotations

import argparse
import json
import os
import sys

import torch

from pipeline.parallel.meeting import timeout
from pipeline.platforms import Platform, find


def main() -> int:
    """Print what is there; 1 with one line on stderr if what is asked for cannot be."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.platforms", description=__doc__)
    parser.add_argument("--device", choices=("xpu", "cuda", "cpu"))
    parser.add_argument("--attention-backend")
    asked = parser.parse_args()
    try:
        platform = find(asked.device)
        backend = platform.resolve_backend(os.environ.get("TORCH_DISTRIBUTED_BACKEND", "").lower())
        timeout(os.environ)
        if asked.attention_backend is not None:
            _try_attention(asked.attention_backend, platform)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    found = {
        "device": platform.kind,
        "count": platform.count(),
        "backend": backend,
        "visible_variable": platform.visible_variable,
        "torch": str(torch.__version__),
    }
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


def _try_attention(name: str, platform: Platform) -> None:
    from pipeline.attention import choose  # it loads diffusers

    choose(name, platform, platform.enter(0, 1))


if __name__ == "__main__":
    sys.exit(main())
