"""Configurations that can never serve: one line and exit code 2, for `serve` and `worker` alike."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ops.stack.ports import free_port

pytestmark = pytest.mark.timeout(120)

ONE_GANG = ("--device", "cpu", "--num-gpus", "1")


def rushes(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "RUSHES_HOME": str(home), "RUSHES_PORT": str(free_port())}
    command = [sys.executable, "-m", "ops.cli", *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=90)


@pytest.mark.parametrize("command", ["serve", "worker"])
def test_a_storage_that_refuses_for_good_is_refused_at_start(command: str, tmp_path: Path) -> None:
    (tmp_path / "artifacts").write_text("in the way")

    done = rushes(command, *ONE_GANG, home=tmp_path)

    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("rushes: the artifact storage refuses: the artifact disk refused: ")
