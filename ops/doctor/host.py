"""The machine around the devices: system, Python, memory, disk, ports, Intel's driver."""

from __future__ import annotations

import ctypes.util
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from ops.doctor.finding import Finding, ok, problem, warning
from ops.doctor.problems import fix_for

GIB = 2**30
WANTED_MEMORY_GB = 32
WANTED_DISK_GB = 100
_INTEL, _DISPLAY = "0x8086", "0x03"


def host(*, listen: tuple[str, int], environ: Mapping[str, str]) -> list[Finding]:
    """Everything here; `listen` is where the API would."""
    return [
        _system(),
        _python(sys.version_info[:2]),
        memory(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")),
        _disk(environ),
        port("port", *listen, "rushes serve --port N: another one"),
        *_master_port(environ),
        *intel(_intel_cards(Path("/sys/class/drm"))),
    ]


def _system() -> Finding:
    if sys.platform != "linux":
        fix = "run it on Linux, Ubuntu 22.04 or newer, say"
        return problem("system", f"{platform.platform()}: only Linux is served", fix)
    release = platform.freedesktop_os_release()
    return ok("system", f"{release.get('PRETTY_NAME', 'Linux')}, kernel {platform.release()}")


def _python(version: tuple[int, ...]) -> Finding:
    text = ".".join(map(str, version))
    if (3, 11) <= version <= (3, 13):
        return ok("python", f"{text} at {sys.executable}")
    return warning("python", f"{text} is not tried", "use Python 3.11, 3.12 or 3.13")


def memory(total_bytes: int) -> Finding:
    """CPU memory, for loading weights and keeping offloaded ones."""
    text = f"{total_bytes / GIB:.0f} GiB"
    if total_bytes / GIB > WANTED_MEMORY_GB - 2:  # the kernel keeps a part of what is built in
        return ok("memory", text)
    fix = "more memory, or models no larger than it: weights pass through it when they are loaded"
    return warning("memory", f"{text}, {WANTED_MEMORY_GB} wanted", fix)


def _disk(environ: Mapping[str, str]) -> Finding:
    models = Path(environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    there = next(path for path in (models, *models.parents) if path.exists())
    free = shutil.disk_usage(there).free / GIB
    text = f"{free:.0f} GiB free for models at {models}"
    if free >= WANTED_DISK_GB:
        return ok("disk", text)
    return warning(
        "disk", f"{text}, {WANTED_DISK_GB} wanted", "free some, or set HF_HOME elsewhere"
    )


def port(area: str, address: str, number: int, fix: str) -> Finding:
    """Whether a server could listen there."""
    try:
        with socket.create_server((address, number)):
            return ok(area, f"{number} is free")
    except OSError as error:
        return warning(area, f"{address}:{number}: {error.strerror or error}", fix)


def _master_port(environ: Mapping[str, str]) -> list[Finding]:
    given = environ.get("MASTER_PORT", "")
    if not given.isdecimal():
        return []
    return [port("port", "", int(given), "unset MASTER_PORT: ranks of one host need none")]


def _intel_cards(drm: Path) -> int:
    """Intel's display devices that the kernel knows."""
    devices = {card.resolve() for card in drm.glob("card*/device")}
    return sum(
        _read(device / "vendor") == _INTEL and _read(device / "class").startswith(_DISPLAY)
        for device in devices
    )


def _read(file: Path) -> str:
    return file.read_text().strip() if file.exists() else ""


def intel(cards: int) -> list[Finding]:
    """Level Zero and xpu-smi; nothing where there is no Intel card and neither is installed."""
    loader, tool = ctypes.util.find_library("ze_loader"), shutil.which("xpu-smi")
    if not (cards or loader or tool):
        return []
    mend = fix_for("No XPU devices found")
    found = [ok("intel", f"{cards} Intel display device(s) in the kernel")]
    if loader:
        found.append(ok("intel", f"Level Zero: {loader}"))
    else:
        found.append(problem("intel", "Level Zero (libze_loader) is not installed", mend))
    if tool is None:
        found.append(
            warning("intel", "xpu-smi is not installed", "install it: driver, memory, load")
        )
        return found
    try:
        command = [tool, "discovery"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=15, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [*found, problem("intel", f"xpu-smi discovery: {error}", mend)]
    said = (done.stdout + done.stderr).strip()
    if done.returncode or "Device Name" not in said:
        return [*found, problem("intel", f"xpu-smi discovery finds no device: {said[:200]}", mend)]
    return [*found, ok("intel", f"xpu-smi discovery:\n{said}")]
