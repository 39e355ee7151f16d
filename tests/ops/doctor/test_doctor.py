import json
import os
import subprocess
import sys
from pathlib import Path


def doctor(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", "doctor", *arguments],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": "", **env},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_a_machine_that_can_serve_is_told_how_best(tiny_wan: Path) -> None:
    done = doctor(
        *("--json", "--device", "cpu", "--num-gpus", "2", "--model-path", str(tiny_wan)),
        *("--width", "64", "--height", "64", "--num-frames", "9"),
        CCL_LOG_LEVEL="info",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert report["ok"]
    said = {(one["area"], one["what"]) for one in report["findings"]}
    tried = ("all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send/recv", "broadcast")
    assert {("exchange", f"{name} between 2 ranks") for name in ("join", *tried)} <= said
    assert ("attention", "sdpa: serves") in said
    assert ("attention", "ring: aten._scaled_dot_product_flash_attention_for_cpu") in said
    assert ("variable", "CCL_LOG_LEVEL=info: oneCCL reads it in every rank") in said
    (command,) = (what for area, what in said if what.startswith("rushes serve"))
    assert command.endswith("--num-gpus 2 --enable-cfg-parallel")


def test_a_device_that_is_not_there_is_a_problem_with_a_fix() -> None:
    done = doctor("--device", "xpu")
    assert done.returncode == 1
    assert "PROBLEM torch: no xpu device is there\n          > xpu-smi discovery" in done.stdout
    assert done.stdout.rstrip().endswith("warning(s)")


def test_a_backend_and_a_size_that_cannot_be_are_problems_with_their_own_fix(
    tiny_wan: Path,
) -> None:
    model = ("--model-path", str(tiny_wan), "--width", "72")
    done = doctor("--device", "cpu", *model, TORCH_DISTRIBUTED_BACKEND="xccl")
    assert done.returncode == 1
    problems = done.stdout.split("PROBLEM ")[1:]
    (backend,) = [one for one in problems if "xccl is not for cpu" in one]
    assert backend.splitlines()[1].strip().startswith("> unset TORCH_DISTRIBUTED_BACKEND")
    assert "MASTER_ADDR" not in backend
    (size,) = [one for one in problems if one.startswith("layout: ")]
    assert size.splitlines()[:2] == [
        "layout: width must be a multiple of 16, such as 64 or 80, got 72",
        "          > another --width",
    ]


def test_a_number_that_means_nothing_is_refused() -> None:
    for option, value in (("--timeout", "-1"), ("--width", "-8"), ("--num-frames", "0")):
        done = doctor(option, value)
        assert done.returncode == 2
        said = f"rushes: Invalid value for '{option}': Input should be greater than or equal to 1\n"
        assert done.stderr == said
