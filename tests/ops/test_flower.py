"""How Flower is started, and that it remembers."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr

from jobs.celery_app import make_celery
from jobs.errors import SettingsError
from jobs.exposure import check_flower_guarded
from jobs.settings import Settings
from jobs.store import JobStore
from ops.flower import flower_arguments, run_flower
from ops.options import DEMO_MODEL
from ops.stack.serve import serve
from pipeline.options import EngineOptions
from tests.fixtures.redis import free_port
from tests.fixtures.waiting import wait_for
from tests.jobs import making

AUTH = ("ada", "se,cret")


@pytest.mark.parametrize("setting", [{"flower_host": "0.0.0.0"}, {"flower_read_only": False}])
def test_beyond_loopback_or_able_to_act_it_wants_a_password_or_oauth(
    setting: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also with all of `serve`, before anything of it starts."""
    settings = Settings.model_validate({"home": tmp_path, "flower_port": free_port()} | setting)
    demo = EngineOptions(model_path=str(DEMO_MODEL), device="cpu", num_gpus=1)
    for start in (run_flower, partial(serve, demo, flower=True, strict=False)):
        with pytest.raises(SettingsError, match="RUSHES_FLOWER_BASIC_AUTH"):
            start(settings)
    check_flower_guarded(Settings.model_validate(setting | {"flower_basic_auth": "ada:se,cret"}))
    monkeypatch.setenv("FLOWER_AUTH", ".*@example.com")
    check_flower_guarded(settings)


def test_a_taken_port_is_one_line(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        settings = Settings(home=tmp_path, flower_port=taken.getsockname()[1])
        with pytest.raises(SettingsError, match="is taken: choose another with RUSHES_FLOWER_PORT"):
            run_flower(settings)


def test_it_only_reads_unless_told_otherwise_and_keeps_its_password_off_the_command_line() -> None:
    assert "--read-only=True" in flower_arguments(Settings())
    able = flower_arguments(
        Settings(flower_read_only=False, flower_basic_auth=SecretStr("a:secret"))
    )
    assert "--read-only=False" in able
    assert "secret" not in " ".join(able)


@contextmanager
def dashboard(settings: Settings) -> Iterator[httpx.Client]:
    """Flower while open, then ended as `serve` ends it."""
    environment = os.environ | {
        "RUSHES_HOME": str(settings.home),
        "RUSHES_REDIS_URL": settings.redis_url or "",
        "RUSHES_FLOWER_PORT": str(settings.flower_port),
        "RUSHES_FLOWER_BASIC_AUTH": ":".join(AUTH),
        "RUSHES_FLOWER_READ_ONLY": "0",
    }
    process = subprocess.Popen([sys.executable, "-m", "ops.cli", "flower"], env=environment)
    client = httpx.Client(base_url=f"http://127.0.0.1:{settings.flower_port}", auth=AUTH)

    def answers() -> bool:
        assert process.poll() is None
        try:
            return client.get("/healthcheck").status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_for(answers, "Flower answers", timeout_s=60)
        yield client
    finally:
        client.close()
        process.terminate()
        process.wait(20)


def test_it_lets_in_by_the_whole_password_and_remembers_over_a_restart(
    redis_url: str, tmp_path: Path
) -> None:
    settings = Settings(redis_url=redis_url, home=tmp_path, flower_port=free_port())
    job = JobStore.connect(settings).submit(making.job())

    def state(client: httpx.Client) -> str | None:
        answer = client.get(f"/api/task/info/{job.id}")
        return str(answer.json()["state"]) if answer.status_code == 200 else None

    with dashboard(settings) as client, make_celery(settings) as app:
        for wrong in (("ada", "se"), ("ada", "")):
            assert client.get("/tasks", auth=wrong).status_code == 401
        assert client.get("/tasks").status_code == 200

        def heard() -> bool:
            with app.connection() as connection, app.events.Dispatcher(connection) as events:
                events.send("task-received", uuid=job.id, name="rushes.generate", args="()")
            return state(client) == "RECEIVED"

        wait_for(heard, "Flower hears of the job", timeout_s=60)
    with dashboard(settings) as client:
        assert state(client) == "RECEIVED"
