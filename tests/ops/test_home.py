import os
import subprocess
import sys
from pathlib import Path

import pytest

from jobs.errors import SettingsError
from ops.stack.home import Home, Run, running

HOLD = (
    "import sys, time, pathlib; from ops.stack.home import Home\n"
    "with Home(pathlib.Path(sys.argv[1])):\n"
    "    print('held', flush=True); time.sleep(600)"
)


def test_a_second_holder_is_refused_by_name(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SettingsError, match=rf"in use by another .*\(pid {holder.pid}\)"):
            Home(tmp_path).__enter__()
        holder.kill()
        holder.wait()
    with Home(tmp_path):  # a killed holder blocks nothing
        pass


def test_announces_what_runs_and_takes_it_back(tmp_path: Path) -> None:
    run = Run(pid=os.getpid(), redis_url="redis://127.0.0.1:1/0", api_url="http://127.0.0.1:2")
    assert running(tmp_path) is None
    with Home(tmp_path) as home:
        home.announce(run)
        assert running(tmp_path) == run
        assert (tmp_path / "run.json").stat().st_mode & 0o077 == 0
    assert running(tmp_path) is None


def test_a_killed_serves_announcement_is_not_believed(tmp_path: Path) -> None:
    with subprocess.Popen(["true"]) as gone:
        gone.wait()
    stale = Run(pid=gone.pid, redis_url="redis://127.0.0.1:1/0", api_url="")
    (tmp_path / "run.json").write_text(stale.model_dump_json())
    assert running(tmp_path) is None


def test_a_home_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match=r"RUSHES_HOME .*file/home cannot be used"):
        Home(tmp_path / "file" / "home").__enter__()
