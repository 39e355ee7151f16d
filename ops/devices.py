"""How many devices there are and how the options spread over them, without loading torch here."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

from ops.options import Refused
from pipeline.layout import Layout
from pipeline.options import EngineOptions


def probe(options: EngineOptions) -> dict[str, Any]:
    """What `python -m pipeline.platforms` says: device, count, backend, visible_variable, torch.

    Raises:
        Refused: the device that was asked for is not there, or torch is not installed.
    """
    command = [sys.executable, "-m", "pipeline.platforms"]
    if options.device is not None:
        command += ["--device", options.device]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise Refused(last[0] if last else f"the device probe ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def plan(options: EngineOptions, device: str) -> Layout:
    """The layout of these options on that kind of device; `num_gpus` omitted: 1, on CPU 2.

    Raises:
        Refused: degrees that do not fit, with the numbers.
    """
    try:
        return options.layout(num_gpus=options.num_gpus or (2 if device == "cpu" else 1))
    except ValueError as error:
        raise Refused(str(error)) from None


def one_gang(options: EngineOptions, layout: Layout, device: str) -> EngineOptions:
    """The options of each single gang of that layout, with nothing left to find out."""
    return options.model_copy(
        update={"num_gpus": layout.gang_size, "dp_size": None, "device": device}
    )
