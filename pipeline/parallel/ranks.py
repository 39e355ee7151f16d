"""The processes of one gang as one of them sees it: who it is, its device, its groups.

Small words between ranks (requests, decisions) go over a CPU group of their own, apart from the
device's backend; tensors go through `collectives`.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from pipeline.layout import Layout
from pipeline.options import Device
from pipeline.parallel import meeting
from pipeline.parallel.collectives import open_groups
from pipeline.parallel.following import follow
from pipeline.parallel.ledger import Ledger
from pipeline.platforms import Platform, find

# An idle gang waits for its next request in a broadcast, however long that takes; a peer's death
# ends the wait at once.
_IDLE = timedelta(days=365)

_FAILED = -1


class RankFailed(Exception):
    """Some rank came to this meeting only to say that it failed; the ranks are in step."""


@dataclass(frozen=True)
class Ranks:
    """This rank among the ranks of its gang. Every method but `leave` must be called by all."""

    rank: int
    world_size: int
    device: torch.device
    platform: Platform
    backend: str
    """torch.distributed's backend for device tensors."""
    control: dist.ProcessGroup
    """gloo, for words and decisions."""
    ledger: Ledger
    """What this rank exchanges between meetings."""
    notes: tuple[str, ...] = ()
    """What is otherwise than one would think about how they are joined, in words."""
    _meshes: dict[Layout, DeviceMesh] = field(default_factory=dict, repr=False, compare=False)

    def broadcast_text(self, text: str | None) -> str:
        """Rank 0's text on every rank; what the others pass is ignored.

        Waits without bound for rank 0.
        """
        data = (text or "").encode() if self.rank == 0 else b""
        size = torch.tensor([len(data)])
        dist.broadcast(size, src=0, group=self.control)
        content = _bytes(data, int(size))
        dist.broadcast(content, src=0, group=self.control)
        return content.numpy().tobytes().decode()

    def agree(self, flag: bool) -> bool:
        """Rank 0's flag on every rank.

        Raises:
            RankFailed: on every rank.
        """
        return bool(self.decide(int(flag)))

    def decide(self, number: int) -> int:
        """Rank 0's number, not negative, on every rank.

        Raises:
            RankFailed: on every rank.
        """
        return self.gather_numbers(number)[0]

    def gather_numbers(self, number: int) -> list[int]:
        """Every rank's number, not negative, in rank order, on every rank: how ranks meet.

        Raises:
            RankFailed: on every rank.
        """
        self.ledger.arrive()
        numbers = [torch.zeros(1, dtype=torch.int64) for _ in range(self.world_size)]
        dist.all_gather(numbers, torch.tensor([number]), group=self.control)
        self.ledger.leave()
        said = [int(each) for each in numbers]
        if _FAILED in said:
            raise RankFailed
        return said

    def gather_text(self, text: str) -> list[str]:
        """Every rank's text, in rank order, on every rank.

        Raises:
            RankFailed: on every rank.
        """
        data = text.encode()
        sizes = self.gather_numbers(len(data))
        contents = [torch.empty(max(sizes), dtype=torch.uint8) for _ in sizes]
        dist.all_gather(contents, _bytes(data, max(sizes)), group=self.control)
        return [
            content[:size].numpy().tobytes().decode()
            for content, size in zip(contents, sizes, strict=True)
        ]

    def drop_out(self) -> None:
        """Come to the next meeting without computing on and fail there: `RankFailed` on the others.

        To be called by the rank that failed alone, with the memory that it held given back.

        Raises:
            StepLost: the others cannot be helped to come there.
        """
        follow(self.ledger, self.device)
        with contextlib.suppress(RankFailed):
            self.gather_numbers(_FAILED)

    def mesh(self, layout: Layout) -> DeviceMesh:
        """Groups named `cfg`, `ring`, `ulysses`, `tp`, and `sp` for ring x ulysses flattened.

        Ranks are numbered as `Layout` documents. A layout's groups are made, and opened, once: each
        keeps threads and connections of its own.

        Raises:
            ValueError: the layout is of another size.
        """
        if layout.gang_size != self.world_size:
            raise ValueError(f"a gang of {self.world_size} ranks cannot be laid out as {layout}")
        if layout not in self._meshes:
            mesh = init_device_mesh(
                self.device.type,
                (layout.cfg, layout.ring, layout.ulysses, layout.tp),
                mesh_dim_names=("cfg", "ring", "ulysses", "tp"),
            )
            open_groups(mesh)
            open_groups(mesh["ring", "ulysses"]._flatten("sp"))
            self._meshes[layout] = mesh
        return self._meshes[layout]

    def leave(self) -> None:
        """Close the groups; the process may end afterwards or join another gang."""
        if dist.is_initialized():
            dist.destroy_process_group()


def join(*, rank: int, world_size: int, rendezvous: Path, device: Device | None) -> Ranks:
    """Meet the gang's other ranks.

    Args:
        rank: this process's number, from 0.
        world_size: how many processes the gang has.
        rendezvous: a path on the host that no earlier gang has used (a file store: no port that
            two gangs could both want); the file is made here, its directory is not. MASTER_ADDR
            and MASTER_PORT take its place.
        device: the kind to use; None takes the first that is there.

    Raises:
        ValueError: the kind is not there, or has no device for this rank, or what torch's variables
            ask for cannot be (see `meeting`).
    """
    platform = find(device)
    environment = platform.rank_environment(rank, world_size)
    if sys.platform == "linux":
        # A gang lives on one host: nobody else should reach its sockets, whatever its name means.
        environment["GLOO_SOCKET_IFNAME"] = "lo"
    for variable, value in environment.items():
        os.environ.setdefault(variable, value)
    backend = meeting.choose_backend(platform, world_size, os.environ)
    own = platform.enter(rank, world_size)
    ledger = Ledger(rendezvous.with_name(f"{rendezvous.name}-ledger"), rank, world_size)
    dist.init_process_group(
        backend=backend.all,
        store=meeting.store(rendezvous, rank, world_size, os.environ),
        rank=rank,
        world_size=world_size,
        timeout=meeting.timeout(os.environ),
    )
    control = dist.new_group(backend="gloo", timeout=_IDLE)
    return Ranks(rank, world_size, own, platform, backend.name, control, ledger, backend.notes)


def _bytes(data: bytes, size: int) -> torch.Tensor:
    """`data` as uint8 [size], filled up with zeros."""
    return torch.tensor(list(data.ljust(size, b"\0")), dtype=torch.uint8)
