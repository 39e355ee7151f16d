import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import pytest

from tests.fixtures.waiting import wait_for
from tests.ops.processes import alive, descendants

pytestmark = pytest.mark.timeout(180)
PATIENCE_S = 120


@contextmanager
def demo(tmp_path: Path, model: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "ops.cli", "demo", "--prompt", 'it\'s "a" cat']
    command += ["--model-path", str(model), "--out", str(tmp_path / "out" / "my clip.mp4")]
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


def test_makes_a_clip_and_leaves_nothing_behind(tmp_path: Path, tiny_wan: Path) -> None:
    with demo(tmp_path, tiny_wan) as process:
        wait_for(lambda: len(descendants(process.pid)) > 5, "all is started", timeout_s=PATIENCE_S)
        below = descendants(process.pid)
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    clip = tmp_path / "out" / "my clip.mp4"
    assert out.startswith(
        f"{clip}: 9 frames, 64x64, {clip.stat().st_size:,} bytes, 1.125 s of video"
    )
    with av.open(clip, "r") as container:
        assert len(list(container.decode(video=0))) == 9
    assert re.search(r"^ *0 %  queued$", err, re.MULTILINE)
    assert err.splitlines()[-1] == "100 %  done"
    assert not any(map(alive, below))
    assert list((tmp_path / "tmp").glob("rushes-*")) == []


def test_interrupted_it_leaves_nothing_behind(tmp_path: Path, tiny_wan: Path) -> None:
    with demo(tmp_path, tiny_wan) as process:
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
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model_index.json").write_text("{}")
    with demo(tmp_path, broken) as process:
        out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "rushes: the demo failed: the gang cannot start" in err
    assert "worker-0 |" in err
    assert out == ""
