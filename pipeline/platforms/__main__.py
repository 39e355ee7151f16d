"""Tell a torch-free parent, in one JSON line, which devices are there."""

from __future__ import annotations

import argparse
import json
import sys

import torch

from pipeline.platforms import find


def main() -> int:
    """Print what is there; 1 with one line on stderr if the device asked for is not."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.platforms", description=__doc__)
    parser.add_argument("--device", choices=("xpu", "cuda", "cpu"))
    try:
        platform = find(parser.parse_args().device)
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    found = {
        "device": platform.kind,
        "count": platform.count(),
        "backend": platform.backend,
        "visible_variable": platform.visible_variable,
        "torch": str(torch.__version__),
    }
    sys.stdout.write(json.dumps(found) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
