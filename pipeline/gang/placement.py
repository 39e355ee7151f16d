"""Which devices there are and which gang gets which of them, without loading torch here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from pipeline.gang.gang import GangError
from pipeline.layout import Layout
from pipeline.options import EngineOptions
from pipeline.outline import Outline


def probe(options: EngineOptions) -> dict[str, Any]:
    """What `python -m pipeline.platforms` says: device, count, backend, visible_variable, torch.

    It looks at the environment and tries the attention operator too, before anything is loaded.

    Raises:
        GangError: the device that was asked for is not there, or cannot do what is asked; or torch
            is not installed.
    """
    command = [sys.executable, "-m", "pipeline.platforms"]
    if options.device is not None:
        command += ["--device", options.device]
    if options.attention_backend not in (None, "auto", "sdpa"):  # those serve everywhere
        command += ["--attention-backend", str(options.attention_backend)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise GangError(last[0] if last else f"the device probe ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def plan(options: EngineOptions, found: Mapping[str, Any]) -> Layout:
    """The layout of these options on the devices found; `num_gpus` omitted: 1, on CPU 2.

    Nothing is known here of a hub id, so its ranks may split sp otherwise (see `undecided`), or refuse.

    Raises:
        ValueError: degrees that do not fit, with the numbers, or not this model.
    """
    num_gpus = options.num_gpus or (2 if found["device"] == "cpu" else 1)
    return options.layout(num_gpus=num_gpus, model=Outline.read(options.model_path))


def undecided(options: EngineOptions, layout: Layout) -> bool:
    """Whether only the model, not read yet, says how `layout` splits sp into ring and ulysses."""
    asked = options.ulysses_degree or options.ring_degree
    return layout.sp > 1 and not asked and Outline.read(options.model_path).heads is None


def gang_envs(
    layout: Layout, found: Mapping[str, Any], environ: Mapping[str, str]
) -> list[dict[str, str]]:
    """What each of the dp gangs adds to the environment: its own part of the visible devices.

    An inherited visibility mask is the pool, and the parts are ids of that mask. Several gangs also
    share the host's cores, unless OMP_NUM_THREADS says otherwise.

    Raises:
        ValueError: more devices asked for than there are, or one meeting place for several gangs.
    """
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        if layout.dp > 1 and environ.get(name):
            raise ValueError(
                f"{name}={environ[name]} names one meeting place for dp_size {layout.dp} gangs: "
                "unset it, gangs find free ones themselves"
            )
    envs: list[dict[str, str]] = [{} for _ in range(layout.dp)]
    variable, count = found["visible_variable"], int(found["count"])
    if variable:
        mask = environ.get(variable)
        pool = [str(i) for i in range(count)] if mask is None else mask.split(",")[:count]
        if layout.num_gpus > len(pool):
            where = f" in {variable}={mask}" if mask is not None else ""
            raise ValueError(
                f"num_gpus {layout.num_gpus}, but {len(pool)} {found['device']} devices{where}"
            )
        size = layout.gang_size
        for gang, env in enumerate(envs):
            env[variable] = ",".join(pool[gang * size : (gang + 1) * size])
    if layout.dp > 1 and "OMP_NUM_THREADS" not in environ:
        threads = str(max(1, len(os.sched_getaffinity(0)) // layout.num_gpus))
        for env in envs:
            env["OMP_NUM_THREADS"] = threads
    return envs
