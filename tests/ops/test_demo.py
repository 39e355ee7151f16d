import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import numpy as np
import pytest

from ops.demo_model.scorer import judge
from ops.demo_model.world import Combination
from tests.fixtures.waiting import wait_for
from tests.ops.processes import alive, descendants

pytestmark = pytest.mark.timeout(180)
PATIENCE_S = 120


@contextmanager
def demo(tmp_path: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "ops.cli", "demo", *arguments]
    command += ["--out", str(tmp_path / "out" / "my clip.mp4")]
    (tmp_path / "tmp").mkdir()
    with subprocess.Popen(
        command,
        env={**os.environ, "TMPDIR": str(tmp_path / "tmp")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def test_makes_the_clip_that_is_asked_for_and_leaves_nothing_behind(tmp_path: Path) -> None:
    asked = Combination("square", "red", "brown", "moving up")
    with demo(tmp_path, "--prompt", asked.prompt, "--seed", "0") as process:
        wait_for(lambda: len(descendants(process.pid)) > 5, "all is started", timeout_s=PATIENCE_S)
        below = descendants(process.pid)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    clip = tmp_path / "out" / "my clip.mp4"
    assert out.startswith(
        f"{clip}: 17 frames, 128x128, {clip.stat().st_size:,} bytes, 2.125 s of video"
    )
    with av.open(clip, "r") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    verdict = judge(np.stack(frames))
    assert all(verdict.matches(asked).values()), verdict
    assert re.search(r"^ *0 %  queued$", err, re.MULTILINE)
    assert err.splitlines()[-1] == "100 %  done"
    assert not any(map(alive, below))
    assert list((tmp_path / "tmp").glob("rushes-*")) == []


def test_interrupted_it_leaves_nothing_behind(tmp_path: Path, tiny_wan: Path) -> None:
    model = ("--prompt", 'it\'s "a" cat', "--model-path", str(tiny_wan))
    with demo(tmp_path, *model) as process:
        wait_for(lambda: len(descendants(process.pid)) > 3, "it is starting", timeout_s=PATIENCE_S)
        below = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode != 0
    assert "Traceback" not in err
    assert not any(map(alive, below))
    assert list((tmp_path / "tmp").glob("rushes-*")) == []
    assert not (tmp_path / "out").exists()


def test_a_failure_shows_the_end_of_the_logs(tmp_path: Path) -> None:
    with demo(tmp_path, "--model-path", "/nowhere") as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "rushes: the demo failed: rushes serve ended with 2" in err
    assert "rushes: --model-path /nowhere is no Diffusers directory" in err
    assert out == ""
