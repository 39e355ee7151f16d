"""Configurations that can never serve: one line and exit code 2, for `serve` and `worker` alike."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.errors import SettingsError
from ops.cli import app
from ops.devices import place
from ops.options import DEMO_MODEL
from ops.stack.ports import free_port
from pipeline.options import EngineOptions

pytestmark = pytest.mark.timeout(120)

ONE_GANG = ("--device", "cpu", "--num-gpus", "1")


def rushes(*arguments: str, home: Path, **more: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "RUSHES_HOME": str(home), "RUSHES_PORT": str(free_port()), **more}
    command = [sys.executable, "-m", "ops.cli", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=90)


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_storage_that_refuses_for_good_is_refused_at_start(command: str, tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("in the way")

    done = rushes(command, *ONE_GANG, home=tmp_path)

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("rushes: the artifact storage refuses: the artifact disk refused: ")


def test_a_model_that_cannot_be_served_so_is_refused_with_its_reason(
    tmp_path: Path, redis_url: str
) -> None:
    model = ("--served-model-name", "tiny", "--workload-type", "i2v")

    done = rushes("serve", *ONE_GANG, *model, home=tmp_path, RUSHES_REDIS_URL=redis_url)

    assert done.returncode == 2, done  # because its worker said so
    said = [line for line in (done.stdout + done.stderr).splitlines() if "rushes: " in line]
    assert len(said) == 1
    assert said[0].endswith("rushes: tiny knows t2v, t2i, not i2v")


def test_strict_refuses_a_redis_that_may_lose_jobs_in_one_line(
    tmp_path: Path, redis_url: str
) -> None:
    done = rushes("relay", "--strict", home=tmp_path, RUSHES_REDIS_URL=redis_url)

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("rushes: Redis runs appendfsync no: a crash may lose the last")


@pytest.mark.parametrize("command", [("serve", *ONE_GANG), ("worker", *ONE_GANG), ("api",)])
def test_every_role_can_be_strict(
    tmp_path: Path, redis_url: str, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    monkeypatch.setenv("RUSHES_PORT", str(free_port()))
    monkeypatch.setenv("RUSHES_REDIS_URL", redis_url)
    with pytest.raises(SettingsError, match="set appendfsync always"):
        app([*command, "--strict"], standalone_mode=False)


def test_serve_refuses_heads_that_ulysses_cannot_share_and_says_which_degrees_can(
    tmp_path: Path,
) -> None:
    done = rushes(
        "serve", "--device", "cpu", "--num-gpus", "3", "--ulysses-degree", "3", home=tmp_path
    )

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line == "rushes: 4 heads do not divide by ulysses 3; degrees that do: 1, 2, 4"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (DEMO_MODEL, "3 = dp 1 x cfg 1 x ring 3 x ulysses 1 x tp 1 on cpu"),
        ("who/what", "sp 3 x tp 1 on cpu (ring and ulysses: decided when the model is read)"),
    ],
    ids=["directory", "hub id"],
)
def test_a_placement_tells_the_layout_that_the_ranks_will_have(model: object, said: str) -> None:
    placement = place(EngineOptions(model_path=str(model), device="cpu", num_gpus=3))

    assert str(placement).endswith(said)
