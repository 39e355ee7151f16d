"""torch's own variables; the staged backend on CPU tensors, which takes the same way as a device's."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from pipeline.parallel import meeting
from pipeline.parallel.ranks import Ranks
from pipeline.platforms.cpu import Cpu
from pipeline.platforms.cuda import Cuda
from pipeline.platforms.xpu import Xpu
from tests.fixtures.ranks import RankPool

Pools = Callable[[int], RankPool]


@pytest.fixture
def built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let torch claim to have every backend."""
    monkeypatch.setattr(dist, "is_backend_available", lambda _: True)


@pytest.mark.usefixtures("built_in")
@pytest.mark.parametrize(
    ("platform", "name", "all_of_them"),
    [
        (Cpu(), "gloo", "gloo"),
        (Cuda(), "nccl", "cpu:gloo,cuda:nccl"),
        (Xpu(), "xccl", "cpu:gloo,xpu:xccl"),
    ],
)
def test_unset_the_device_has_its_own_and_gloo_carries_words(
    platform: Cpu | Cuda | Xpu, name: str, all_of_them: str
) -> None:
    assert meeting.choose_backend(platform, 2, {}) == meeting.Backend(name, all_of_them)


def test_gloo_for_a_device_is_staged_and_said() -> None:
    backend = meeting.choose_backend(Xpu(), 2, {"TORCH_DISTRIBUTED_BACKEND": "gloo"})
    assert (backend.name, backend.all) == ("gloo_staged", "gloo_staged")
    assert backend.notes == (
        (
            "TORCH_DISTRIBUTED_BACKEND=gloo: what ranks exchange passes through CPU memory, much "
            "slower than xccl"
        ),
    )


def test_a_backend_that_torch_lacks_is_never_replaced_in_silence() -> None:
    with pytest.raises(ValueError, match=r"no nccl, .* set TORCH_DISTRIBUTED_BACKEND=gloo"):
        meeting.choose_backend(Cuda(), 2, {})
    assert meeting.choose_backend(Cuda(), 1, {}).name == "gloo_staged"  # nothing to exchange


@pytest.mark.usefixtures("built_in")
def test_another_name_for_the_same_is_said() -> None:
    backend = meeting.choose_backend(Xpu(), 2, {"TORCH_DISTRIBUTED_BACKEND": "CCL"})
    assert backend.name == "xccl"
    assert backend.notes == ("TORCH_DISTRIBUTED_BACKEND=ccl is xccl in this torch: using xccl",)


def test_the_timeout_is_seconds() -> None:
    assert meeting.timeout({}) == timedelta(minutes=30)
    assert meeting.timeout({"TORCH_DISTRIBUTED_TIMEOUT": "7"}) == timedelta(seconds=7)
    for wrong in ("0", "-1", "1.5", "soon"):
        with pytest.raises(ValueError, match="is no whole number of seconds above 0"):
            meeting.timeout({"TORCH_DISTRIBUTED_TIMEOUT": wrong})


def test_ranks_meet_in_a_file_unless_told_a_place(tmp_path: Path, free_port: int) -> None:
    assert type(meeting.store(tmp_path / "store", 0, 1, {})).__name__ == "FileStore"
    store: Any = meeting.store(tmp_path / "store", 0, 1, {"MASTER_PORT": str(free_port)})
    assert (store.host, store.port) == ("127.0.0.1", free_port)


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("", 0)) as taken:
        port = taken.getsockname()[1]
        environ = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
        with pytest.raises(ValueError, match=f"MASTER_PORT={port} .choose a free port"):
            meeting.store(tmp_path / "store", 0, 1, environ)


@pytest.fixture
def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def exchange(ranks: Ranks) -> dict[str, Any]:
    """Each collective in use, on a staged group of its own; numbers that tell who sent what."""
    from torch.distributed.fsdp import fully_shard

    from pipeline.parallel import shift, staged
    from pipeline.parallel.collectives import all_gather, all_to_all

    staged.register()
    group = dist.new_group(backend=staged.STAGED)
    mine = torch.full((2,), float(ranks.rank))
    reduced, spread = mine + 1, mine.clone()
    dist.all_reduce(reduced, group=group)
    dist.broadcast(spread, src=1, group=group)
    scattered = torch.empty(1)
    whole = torch.arange(2.0) + ranks.rank
    group.reduce_scatter_single(scattered, whole, dist.ReduceScatterOptions()).wait()
    rows = torch.arange(3.0) + 10 * ranks.rank
    uneven = [1, 2] if ranks.rank == 0 else [2, 1]  # rank 0 keeps 1 and sends 2, rank 1 sends 2
    layer = torch.nn.Linear(2, 2, bias=False).requires_grad_(requires_grad=False)
    layer.weight.fill_(1.0)
    mesh = dist.device_mesh.DeviceMesh.from_group(group, "cpu")
    fully_shard(layer, mesh=mesh)
    result = {
        "backend": dist.get_backend(group),
        "all_reduce": reduced.tolist(),
        "broadcast": spread.tolist(),
        "reduce_scatter": scattered.tolist(),
        "all_gather": all_gather(mine, group).tolist(),
        "all_to_all": all_to_all(
            rows, uneven if ranks.rank == 0 else [2, 1], uneven, group
        ).tolist(),
        "send and receive": shift.point_to_point(mine, (2,), group)().tolist(),
        "permutation": shift.permutation(mine, (2,), group)().tolist(),
        "sharded": layer(torch.ones(1, 2)).tolist(),
    }
    dist.destroy_process_group(group)
    dist.destroy_process_group(dist.new_group(backend=staged.STAGED))  # unused: the ring's trial
    return result


def test_every_exchange_passes_through_cpu_memory_unchanged(rank_pools: Pools) -> None:
    zero, one = rank_pools(2).run(exchange)
    both = {
        "backend": "gloo_staged",
        "all_reduce": [3.0, 3.0],
        "broadcast": [1.0, 1.0],
        "all_gather": [[0.0, 0.0], [1.0, 1.0]],
        "sharded": [[2.0, 2.0]],
    }
    assert zero == both | {
        "reduce_scatter": [1.0],
        "all_to_all": [0.0, 10.0, 11.0],
        "send and receive": [1.0, 1.0],
        "permutation": [1.0, 1.0],
    }
    assert one == both | {
        "reduce_scatter": [3.0],
        "all_to_all": [1.0, 2.0, 12.0],
        "send and receive": [0.0, 0.0],
        "permutation": [0.0, 0.0],
    }
