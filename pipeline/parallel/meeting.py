"""How the ranks of a gang meet, as torch's own variables ask.

TORCH_DISTRIBUTED_BACKEND, TORCH_DISTRIBUTED_TIMEOUT (seconds), MASTER_ADDR and MASTER_PORT. Unset,
the device's own backend, half an hour, and a file: no port that two gangs could both want.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import torch.distributed as dist
from torch.distributed.distributed_c10d import Store

from pipeline.parallel import staged
from pipeline.platforms import Platform

_STUCK_S = 1800
_MASTER_ADDR, _MASTER_PORT = "127.0.0.1", "29500"


@dataclass(frozen=True)
class Backend:
    """What carries tensors between ranks."""

    name: str
    """torch.distributed's, for device tensors."""
    all: str
    """With that for words, as `init_process_group` wants them."""
    notes: tuple[str, ...] = ()
    """What is otherwise than one would think, in words."""


def choose_backend(platform: Platform, world_size: int, environ: Mapping[str, str]) -> Backend:
    """The backend that TORCH_DISTRIBUTED_BACKEND asks for, or else the platform's own.

    Raises:
        ValueError: it is not for this device, or not in this torch; the message names what is.
    """
    asked = environ.get("TORCH_DISTRIBUTED_BACKEND", "").lower()
    name = platform.resolve_backend(asked)
    notes = platform.environment_notes(environ)
    if asked and name != asked:
        notes += (f"TORCH_DISTRIBUTED_BACKEND={asked} is {name} in this torch: using {name}",)
    if platform.in_host_memory:
        return Backend(name, name, notes)
    if name != "gloo" and not dist.is_backend_available(name):
        if world_size > 1:
            raise ValueError(
                f"this torch has no {name}, which ranks on {platform.kind} exchange tensors by: "
                f"install a build of torch for {platform.kind}, or set "
                "TORCH_DISTRIBUTED_BACKEND=gloo (through CPU memory, much slower)"
            )
        name = "gloo"  # one rank exchanges nothing
    elif name == "gloo":
        note = "TORCH_DISTRIBUTED_BACKEND=gloo: what ranks exchange passes through CPU memory"
        notes += (f"{note}, much slower than {platform.backend}",)
    if name == "gloo":
        staged.register()
        return Backend(staged.STAGED, staged.STAGED, notes)
    return Backend(name, f"cpu:gloo,{platform.kind}:{name}", notes)


def timeout(environ: Mapping[str, str]) -> timedelta:
    """How long an exchange may take before the gang gives up: TORCH_DISTRIBUTED_TIMEOUT.

    Raises:
        ValueError: no whole number of seconds above 0.
    """
    given = environ.get("TORCH_DISTRIBUTED_TIMEOUT", "") or str(_STUCK_S)
    if not given.isdecimal() or int(given) == 0:
        raise ValueError(
            f"TORCH_DISTRIBUTED_TIMEOUT={given!r} is no whole number of seconds above 0"
        )
    return timedelta(seconds=int(given))


def store(rendezvous: Path, rank: int, world_size: int, environ: Mapping[str, str]) -> Store:
    """Where ranks find each other: at MASTER_ADDR and MASTER_PORT if one is set, else in a file.

    Raises:
        ValueError: the port is taken, or cannot be reached.
    """
    if not (environ.get("MASTER_ADDR") or environ.get("MASTER_PORT")):
        return dist.FileStore(str(rendezvous), world_size)  # type: ignore[attr-defined]  # it is public
    address = environ.get("MASTER_ADDR") or _MASTER_ADDR
    port = environ.get("MASTER_PORT") or _MASTER_PORT
    if not port.isdecimal():
        raise ValueError(f"MASTER_PORT={port!r} is no port")
    try:
        return dist.TCPStore(  # type: ignore[attr-defined]
            address, int(port), world_size, is_master=rank == 0, timeout=timeout(environ)
        )
    except dist.DistError as error:
        raise ValueError(
            f"cannot meet at MASTER_ADDR={address}, MASTER_PORT={port} (choose a free port, or "
            f"leave both unset): {str(error).strip().partition(chr(10))[0]}"
        ) from error
