from __future__ import annotations

import json
import mmap
import subprocess
import sys
import types
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline import platforms
from pipeline.platforms.accelerator import Accelerator
from pipeline.platforms.cpu import Cpu
from pipeline.platforms.cuda import Cuda
from pipeline.platforms.xpu import Xpu


def probe(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "pipeline.platforms", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_probe_says_in_one_json_line_what_is_there() -> None:
    answer = probe("--device", "cpu")
    assert answer.returncode == 0
    assert answer.stdout.count("\n") == 1
    assert json.loads(answer.stdout) == {
        "device": "cpu",
        "count": Cpu().count(),
        "backend": "gloo",
        "visible_variable": "",
        "torch": torch.__version__,
    }


@pytest.mark.skipif(Xpu().count() > 0, reason="an XPU is there")
def test_the_probe_fails_in_one_line_for_a_kind_that_is_not_there() -> None:
    answer = probe("--device", "xpu")
    assert (answer.returncode, answer.stdout) == (1, "")
    assert answer.stderr == "no xpu device is there\n"


class Fake(SimpleNamespace):
    """A labelled stand-in for torch.cuda or torch.xpu, which this machine may not have."""

    def __init__(self, count: int) -> None:
        super().__init__(
            is_available=lambda: count > 0,
            device_count=lambda: count,
            set_device=self._choose,
            get_device_name=lambda device: f"Fake {device}",
            get_device_properties=lambda device: SimpleNamespace(total_memory=24 * 2**30),
            chosen=[],
        )

    def _choose(self, index: int) -> None:
        self.chosen.append(index)


def stand_in(monkeypatch: pytest.MonkeyPatch, **counts: int) -> dict[str, Fake]:
    fakes = {kind: Fake(counts.get(kind, 0)) for kind in ("xpu", "cuda")}
    monkeypatch.setattr(torch, "get_device_module", fakes.__getitem__)
    return fakes


@pytest.mark.parametrize(
    ("counts", "first"), [({"xpu": 1, "cuda": 1}, "xpu"), ({"cuda": 1}, "cuda"), ({}, "cpu")]
)
def test_the_first_of_xpu_cuda_cpu_is_taken(
    monkeypatch: pytest.MonkeyPatch, counts: dict[str, int], first: str
) -> None:
    stand_in(monkeypatch, **counts)
    assert platforms.find().kind == first


@pytest.mark.parametrize("platform", [Cuda(), Xpu()], ids=["cuda", "xpu"])
def test_a_rank_takes_the_device_of_its_number(
    monkeypatch: pytest.MonkeyPatch, platform: Accelerator
) -> None:
    fakes = stand_in(monkeypatch, cuda=2, xpu=2)
    device = platform.enter(1, 2)
    assert device == torch.device(platform.kind, 1)
    assert fakes[platform.kind].chosen == [1]
    assert platform.name(device) == f"Fake {device}"
    assert platform.memory_bytes(device) == 24 * 2**30
    with pytest.raises(ValueError, match=f"rank 2 of 3 has no {platform.kind} device: 2 seen"):
        platform.enter(2, 3)


@pytest.mark.parametrize(
    ("platform", "backend", "dtype"),
    [
        (Cpu(), "gloo", torch.float32),
        (Cuda(), "nccl", torch.bfloat16),
        (Xpu(), "xccl", torch.bfloat16),
    ],
    ids=["cpu", "cuda", "xpu"],
)
def test_every_kind_has_its_backend(
    platform: platforms.Platform, backend: str, dtype: torch.dtype
) -> None:
    assert platform.resolve_backend("") == backend
    assert platform.resolve_backend(backend) == backend
    assert platform.resolve_backend("gloo") == "gloo"
    with pytest.raises(ValueError, match=f"BACKEND=mpi is not for {platform.kind}: leave it unset"):
        platform.resolve_backend("mpi")
    assert platform.default_dtype == dtype


def test_oneccl_is_told_that_there_is_no_mpi_launcher() -> None:
    assert Xpu().rank_environment(1, 4) == {
        "CCL_PROCESS_LAUNCHER": "none",
        "CCL_LOCAL_SIZE": "4",
        "CCL_LOCAL_RANK": "1",
        "CCL_ATL_TRANSPORT": "ofi",
        "CCL_SEND": "direct",
        "CCL_RECV": "direct",
    }


@pytest.mark.parametrize(
    ("environ", "warned"),
    [
        ({}, False),
        ({"CCL_ATL_TRANSPORT": "ofi"}, False),
        ({"CCL_ATL_TRANSPORT": "mpi"}, True),
        ({"CCL_ATL_TRANSPORT": "mpi", "PMI_RANK": "0"}, False),
    ],
)
def test_mpi_transport_without_mpirun_is_warned_of(environ: dict[str, str], warned: bool) -> None:
    notes = Xpu().environment_notes(environ)
    assert [note.partition(":")[2] for note in notes] == [
        " set it to ofi, or leave it unset"
    ] * warned
    assert not Cuda().environment_notes(environ)


def test_ccl_is_xccl_where_torch_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.distributed.is_backend_available", lambda name: name == "xccl")
    monkeypatch.setitem(sys.modules, "oneccl_bindings_for_pytorch", None)  # must not be asked for
    assert Xpu().resolve_backend("ccl") == "xccl"


def test_ccl_is_the_bindings_where_torch_has_no_xccl(monkeypatch: pytest.MonkeyPatch) -> None:
    bindings = types.ModuleType("oneccl_bindings_for_pytorch")  # a fake
    monkeypatch.setitem(sys.modules, bindings.__name__, bindings)
    assert Xpu().resolve_backend("ccl") == "ccl"
    monkeypatch.setitem(sys.modules, bindings.__name__, None)
    with pytest.raises(ValueError, match="no xccl, and oneccl_bindings_for_pytorch cannot be"):
        Xpu().resolve_backend("ccl")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    yield torch.get_num_threads
    torch.set_num_threads(before)


def test_cpu_ranks_share_the_cores_and_one_alone_has_them_all(
    monkeypatch: pytest.MonkeyPatch, threads: Any
) -> None:
    monkeypatch.setattr(Cpu, "count", lambda self: 6)
    cpu = Cpu()
    cpu.enter(0, 3)
    assert threads() == 2
    with cpu.alone():
        assert threads() == 6
    assert threads() == 2
    cpu.enter(0, 8)
    assert threads() == 1


def test_a_number_of_threads_that_was_asked_for_is_kept(
    monkeypatch: pytest.MonkeyPatch, threads: Any
) -> None:
    torch.set_num_threads(3)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    Cpu().enter(0, 2)
    with Cpu().alone():
        assert threads() == 3


def test_cpu_memory_peaks_are_seen_and_forgotten() -> None:
    cpu, device = Cpu(), torch.device("cpu")
    cpu.reset_peak_memory(device)
    before = cpu.peak_memory_bytes(device)
    held = mmap.mmap(-1, 64 * 2**20)  # pages of its own: a tensor may take what another left behind
    held.write(b"1" * len(held))
    with_it = cpu.peak_memory_bytes(device)
    assert with_it - before > 48 * 2**20
    held.close()
    assert cpu.peak_memory_bytes(device) - before > 48 * 2**20
    cpu.reset_peak_memory(device)
    assert cpu.peak_memory_bytes(device) < with_it - 32 * 2**20
    assert cpu.memory_bytes(device) > with_it


def test_running_out_of_memory_is_told_from_other_errors() -> None:
    with pytest.raises(RuntimeError) as host:
        torch.empty(2**60, dtype=torch.uint8)
    assert Cpu().is_out_of_memory(host.value)
    assert Cuda().is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    cublas = RuntimeError(
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"
    )
    assert Cuda().is_out_of_memory(cublas)
    assert not Cpu().is_out_of_memory(cublas)
    assert Cuda().is_out_of_memory(
        RuntimeError("FIND was unable to find an engine to execute this computation")
    )
    assert Xpu().is_out_of_memory(
        RuntimeError(
            "level_zero backend failed with error: 39 (UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY)"
        )
    )
    assert not Cpu().is_out_of_memory(RuntimeError("shapes do not fit"))
    assert not Cuda().is_out_of_memory(ValueError("can't allocate memory"))
