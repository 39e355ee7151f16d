from pathlib import Path

import pytest

from ops.doctor.doctor import read_log
from ops.doctor.page import page
from ops.doctor.problems import PROBLEMS, fix_for, recognise

DOCS = Path(__file__).parents[3] / "docs"

GUIDE = [
    ("RuntimeError: oneCCL not found", "CCL not available"),
    ("ModuleNotFoundError: No module named 'oneccl_bindings_for_pytorch'", "CCL not available"),
    ("RuntimeError: XPU device not found", "No XPU devices found"),
    ("No XPU devices found", "No XPU devices found"),
    (
        "RuntimeError: Failed to initialize distributed environment",
        "Distributed initialization failed",
    ),
    ("RuntimeError: XPU out of memory", "Out of memory"),
]
"""The symptoms in the deployment guide's chapter on troubleshooting."""

OURS = [
    ("rushes: no xpu device is there", "No XPU devices found"),
    ("num_gpus 4, but 2 xpu devices in ZE_AFFINITY_MASK=0,1", "No XPU devices found"),
    ("this torch has no xccl, which ranks on xpu exchange tensors by", "CCL not available"),
    (
        "cannot meet at MASTER_ADDR=localhost, MASTER_PORT=29500",
        "Distributed initialization failed",
    ),
    ("OSError: [Errno 98] Address already in use", "Distributed initialization failed"),
    (
        "TORCH_DISTRIBUTED_BACKEND=xccl is not for cpu: leave it unset for gloo",
        "The backend is not for this device",
    ),
    ("the latent is not finite after step 1: the weights may be", "The result is not finite"),
    ("the decoded frames are not finite: the VAE's weights", "The result is not finite"),
    ("the try failed code=not_finite", "The result is not finite"),
    ("CCL_ERROR: failed to initialize ATL", "oneCCL finds no transport"),
    ("CCL_ATL_TRANSPORT=mpi needs ranks that mpirun started", "oneCCL finds no transport"),
    ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", "Out of memory"),
    ("UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY", "Out of memory"),
    ("[PG ID 0] Watchdog caught collective operation timeout", "An exchange hangs"),
    (
        "TORCH_DISTRIBUTED_BACKEND=gloo: what ranks exchange passes through CPU memory, much slower",
        "Slower than expected",
    ),
    (
        "attention_backend fa3 cannot serve here: it is not made for xpu; use sdpa instead",
        "The attention backend cannot serve",
    ),
]


@pytest.mark.parametrize(("said", "name"), GUIDE + OURS)
def test_a_symptom_is_recognised_and_answered(said: str, name: str) -> None:
    known = recognise(f"12:00 rank 1 ERROR pipeline: {said}\nand more")
    assert [problem.name for problem in known] == [name]
    assert fix_for(said) == "\n".join(known[0].fix)


def test_every_problem_has_a_symptom_among_these() -> None:
    assert {name for _, name in GUIDE + OURS} == {problem.name for problem in PROBLEMS}


def test_what_is_not_known_has_the_fix_that_the_caller_names() -> None:
    assert recognise("all is well: 4 ranks ready over xccl on 4 XPU devices") == []
    assert fix_for("all is well", "leave it") == "leave it"


def test_a_log_is_searched(tmp_path: Path) -> None:
    log = tmp_path / "worker-0.log"
    log.write_bytes(b"\xff ready\nRuntimeError: XPU out of memory\noneCCL not found\n")
    assert [one.what.partition(":")[0] for one in read_log(log)] == [
        "CCL not available",
        "Out of memory",
    ]
    log.write_text("ready\n")
    assert [one.state for one in read_log(log)] == ["ok"]
    assert [one.state for one in read_log(tmp_path / "none")] == ["problem"]


def test_the_troubleshooting_page_is_what_the_doctor_knows() -> None:
    assert (DOCS / "TROUBLESHOOTING.md").read_text() == page(), (
        "run: python -m ops.doctor.page > docs/TROUBLESHOOTING.md"
    )
