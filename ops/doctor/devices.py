"""Devices, the build of torch, backends and attention operators, as torch itself sees them.

torch is asked in a process of its own: the command line stays light, and what a driver does to it
does not happen to us.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from ops.doctor.finding import Finding, ok, problem, warning
from ops.doctor.host import GIB
from ops.doctor.problems import fix_for

_TORCH_S = 120.0


def look(device: str | None) -> tuple[dict[str, Any], list[Finding]]:
    """What `pipeline.platforms.details` tells, empty if nothing, and what is said of it."""
    command = [sys.executable, "-m", "pipeline.platforms.details"]
    if device is not None:
        command += ["--device", device]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_TORCH_S, check=False
        )
    except subprocess.TimeoutExpired:
        fix = fix_for("No XPU devices found")
        return {}, [problem("torch", f"it did not answer within {_TORCH_S:g} s", fix)]
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        said = (done.stderr or done.stdout).strip().splitlines()[-1:]
        what = said[0] if said else f"it ended with {done.returncode}"
        return {}, [problem("torch", what, fix_for(what, "pip install -e '.[pipeline]'"))]
    details: dict[str, Any] = json.loads(lines[-1])
    return details, []


def describe(details: Mapping[str, Any], environ: Mapping[str, str]) -> list[Finding]:
    """What is said of the details."""
    found = [ok("torch", f"{details['torch']}, a build for {details['build']}")]
    found += [_device(index, one, details) for index, one in enumerate(details["devices"])]
    if details["device"] == "xpu":
        found.append(_mask(details["devices"], environ))
    found.append(_backend(details))
    for name, why in details["attention"].items():
        found.append(ok("attention", f"{name}: {'serves' if not why else 'not here'}"))
    found.append(_ring(details["ring"]))
    for module, version in details["extensions"].items():
        found.append(ok("extension", f"{module} {version}"))
    if not details["extensions"] and details["device"] == "xpu":
        found.append(ok("extension", "neither IPEX nor oneccl_bindings: torch needs neither"))
    return found


def _ring(tried: Mapping[str, str]) -> Finding:
    """Whether an operator returns the log-sum-exp that a ring's blocks are merged by."""
    for name, why in tried.items():
        if not why:
            return ok("attention", f"ring: aten.{name}")
    wrong = "; ".join(f"aten.{name}: {why}" for name, why in tried.items())
    return warning(
        "attention", f"ring: not here ({wrong})", "--ulysses-degree in place of --ring-degree"
    )


def _device(index: int, one: Mapping[str, Any], details: Mapping[str, Any]) -> Finding:
    kind, gib = details["device"], one["memory_bytes"] / GIB
    text = f"{kind}:{index} {one['name']}, {gib:.0f} GiB"
    if kind == "xpu":
        text += f", {family(one['name'])}"
    if kind == "cpu":
        fix = "for more than trials, a machine with an XPU or a GPU"
        return warning("device", f"{text}: no accelerator is there", fix)
    return ok("device", text)


def family(name: str) -> str:
    """Which of the two families an XPU belongs to, by its name."""
    if "Max" in name:
        return "Data Center GPU Max"
    return "Arc" if "Arc" in name else "neither a Max nor an Arc by its name"


def _mask(devices: list[Mapping[str, Any]], environ: Mapping[str, str]) -> Finding:
    """Whether an id of ZE_AFFINITY_MASK is a card or a tile: the driver's rule (FLAT since 2023)."""
    hierarchy = environ.get("ZE_FLAT_DEVICE_HIERARCHY", "FLAT")
    tiled = any("Max" in device["name"] for device in devices)
    means = "tiles" if hierarchy == "FLAT" and tiled else "cards"
    mask = environ.get("ZE_AFFINITY_MASK")
    given = f"ZE_AFFINITY_MASK={mask}" if mask is not None else "no ZE_AFFINITY_MASK"
    return ok("device", f"{given}: ids mean {means} (ZE_FLAT_DEVICE_HIERARCHY {hierarchy})")


def _backend(details: Mapping[str, Any]) -> Finding:
    own, built = details["backend"], details["backends"]
    text = f"{', '.join(built)} built in"
    if own in built:
        return ok("backend", text)
    if len(details["devices"]) == 1:
        return warning("backend", f"{text}, {own} is not: one device does without", "")
    return problem("backend", f"{text}, {own} is not", fix_for(f"this torch has no {own}"))
