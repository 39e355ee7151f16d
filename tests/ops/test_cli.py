import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ops.stack.ports import LOOPBACK, free_port
from tests.ops.test_home import HOLD


def rushes(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "ops.cli", *arguments],
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def children_s() -> float:
    """What ended children have used of the processor, which other processes hardly lengthen."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """The one line of a refusal."""
    assert done.returncode == 2, done
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stdout == ""
    return done.stderr


def test_help_names_every_command_and_is_quick() -> None:
    began = children_s()
    done = rushes("--help")
    assert done.returncode == 0
    assert children_s() - began < 2  # 0.25 s on an idle machine; torch alone takes 3
    for command in (
        "serve",
        "generate",
        "demo",
        "api",
        "worker",
        "relay",
        "flower",
        "bench",
        "doctor",
    ):
        assert f" {command} " in done.stdout


def test_the_command_line_loads_no_model_library() -> None:
    code = (
        "import sys, ops.cli, ops.stack.serve, ops.demo, ops.generate, ops.bench.overhead\n"
        "print([m for m in ('torch', 'diffusers', 'transformers', 'numpy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize("command", ["serve", "worker", "generate"])
def test_options_that_contradict_each_other_are_one_line(command: str) -> None:
    prompt = ("--prompt", "x") if command == "generate" else ()
    line = refused(rushes(command, *prompt, "--model-path", "own/m", "--hsdp-shard-dim", "2"))
    assert line == "rushes: hsdp_shard_dim says how use_fsdp_inference shards: give both\n"


def test_an_unknown_option_is_named() -> None:
    assert "--nmu-gpus" in refused(rushes("serve", "--nmu-gpus", "2"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("serve", "--port", "0"), "'--port': Input should be greater than or equal to 1"),
        (("serve", "--dtype", "int8"), "'--dtype': 'int8' is not one of"),
        (("serve", "--log-level", "loud"), "'--log-level': 'loud' is not one of"),
        (("generate",), "--prompt"),
        (("keys", "create"), "'name'"),
        (("sevre",), "'sevre'"),
    ],
)
def test_a_wrong_word_is_one_line(arguments: tuple[str, ...], words: str) -> None:
    assert words in refused(rushes(*arguments))


@pytest.mark.parametrize("arguments", [(), ("bench",)])
def test_nothing_is_answered_by_the_help(arguments: tuple[str, ...]) -> None:
    done = rushes(*arguments)
    assert done.returncode == 2
    assert "Usage: " in done.stdout
    assert done.stderr == ""


def test_a_misspelt_variable_is_refused_with_the_nearest_known_one(tmp_path: Path) -> None:
    done = rushes("relay", RUSHES_HOME=str(tmp_path), RUSHES_LOGLEVEL="debug")
    assert "RUSHES_LOGLEVEL is no setting: did you mean RUSHES_LOG_LEVEL?" in refused(done)


def test_a_bad_setting_is_named_with_its_way_out(tmp_path: Path) -> None:
    done = rushes("serve", "--model-path", "own/m", RUSHES_HOME=str(tmp_path), RUSHES_LEASE_S="3")
    assert "RUSHES_LEASE_S 3 must be at least three beats" in refused(done)


def test_serve_refuses_a_layout_that_does_not_fit_with_the_numbers(tmp_path: Path) -> None:
    done = rushes(
        *("serve", "--model-path", "own/m", "--port", str(free_port()), "--device", "cpu"),
        *("--num-gpus", "4", "--dp-size", "3"),
        RUSHES_HOME=str(tmp_path),
    )
    assert "num_gpus 4 is not divisible by dp 3 x cfg 1 x tp 1 = 3" in refused(done)


def test_serve_refuses_a_taken_port_before_anything_starts(tmp_path: Path) -> None:
    import socket

    with socket.create_server((LOOPBACK, 0)) as listener:
        port = listener.getsockname()[1]
        done = rushes(
            "serve", "--model-path", "own/m", "--port", str(port), RUSHES_HOME=str(tmp_path)
        )
    assert f"port {port} on 127.0.0.1 is taken: choose another with --port" in refused(done)
    assert not (tmp_path / "redis").exists()


def test_serve_refuses_a_home_in_use_by_name(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        done = rushes("serve", "--model-path", "own/m", RUSHES_HOME=str(tmp_path))
        holder.kill()
    assert f"RUSHES_HOME {tmp_path} is in use by another rushes serve (pid {holder.pid})" in (
        refused(done)
    )


def test_serve_refuses_a_redis_that_does_not_answer(tmp_path: Path) -> None:
    url = f"redis://:hush@127.0.0.1:{free_port()}/0"
    done = rushes(
        *("serve", "--model-path", "own/m", "--port", str(free_port())),
        RUSHES_HOME=str(tmp_path),
        RUSHES_REDIS_URL=url,
    )
    line = refused(done)
    assert "RUSHES_REDIS_URL redis://:***@127.0.0.1" in line
    assert "hush" not in line


@pytest.mark.parametrize("command", ["api", "relay", "flower"])
def test_a_role_without_redis_says_what_to_do(command: str, tmp_path: Path) -> None:
    assert "RUSHES_REDIS_URL" in refused(rushes(command, RUSHES_HOME=str(tmp_path)))
