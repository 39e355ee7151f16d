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
