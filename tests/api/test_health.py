"""/health, /livez, /readyz."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient
from structlog.testing import capture_logs

from api.app import create_app
from api.health import StorageWatch
from jobs.artifacts import ArtifactStore, open_artifacts
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.worker import announce, claim
from tests.fixtures.redis import RedisServer


def health(client: FlaskClient) -> tuple[int, dict[str, Any]]:
    answer = client.get("/health")
    return answer.status_code, answer.get_json()


def test_alive_and_ready_before_any_gang(client: FlaskClient) -> None:
    assert client.get("/livez").json == {"status": "alive"}
    assert client.get("/readyz").json == {"status": "ready"}


def test_starting_is_503(client: FlaskClient, workers: Workers) -> None:
    status, report = health(client)
    assert (status, report["status"], report["gangs"]) == (503, "starting", [])
    announce(workers, state="starting", card=None, devices=(), platform="")
    status, report = health(client)
    assert (status, report["status"]) == (503, "starting")
    assert [gang["state"] for gang in report["gangs"]] == ["starting"]
    assert (report["num_gpus"], report["platform"]) == (0, None)


def test_ready_is_200_with_the_guides_fields(served: FlaskClient) -> None:
    status, report = health(served)
    assert (status, report["status"]) == (200, "ready")
    assert (report["num_gpus"], report["dp_size"], report["sp_degree"]) == (2, 1, 2)
    assert (report["platform"], report["backend"]) == ("cpu", "gloo")
    assert report["queue"] == {"queued": 0, "running": 0}
    assert report["store"] == "ok"
    assert report["storage"] == {"kind": "disk", "status": "ok"}
    assert report["fallbacks"] == []


def test_totals_are_over_gangs_and_null_where_they_differ(
    served: FlaskClient, workers: Workers
) -> None:
    announce(workers, id="worker-2")
    _, report = health(served)
    assert (report["num_gpus"], report["dp_size"], report["sp_degree"]) == (4, 2, 2)

    announce(
        workers,
        id="worker-3",
        model="other",
        names=("other",),
        platform="xpu",
        degrees={"cfg": 2, "ring": 1, "ulysses": 1, "tp": 1},
        fallbacks=("xccl is not there: gloo",),
    )
    _, report = health(served)
    assert (report["num_gpus"], report["dp_size"]) == (6, 3)
    assert report["sp_degree"] is report["platform"] is report["degrees"]["cfg"] is None
    assert report["degrees"]["tp"] == 1
    assert report["models"] == ["other", "tiny"]
    assert report["fallbacks"] == ["xccl is not there: gloo"]


def test_queue_and_running_are_counted(served: FlaskClient, store: JobStore) -> None:
    ids = [served.post("/v1/videos", json={"prompt": "x"}).get_json()["id"] for _ in range(3)]
    claim(store, ids[0])
    _, report = health(served)
    assert report["queue"] == {"queued": 2, "running": 1}
    assert report["gangs"][0]["busy"] is True


def test_a_gang_is_told_without_host_pid_or_jobs(served: FlaskClient, store: JobStore) -> None:
    job_id = served.post("/v1/videos", json={"prompt": "x"}).get_json()["id"]
    claim(store, job_id)
    text = served.get("/health").text
    for private in ("secret-host", "4242", job_id):
        assert private not in text


@pytest.mark.parametrize(
    ("states", "code", "word"),
    [
        (("ready", "unhealthy"), 200, "degraded"),
        (("unhealthy",), 503, "degraded"),
        (("ready", "starting"), 200, "ready"),
        (("ready", "draining"), 200, "ready"),
        (("draining",), 503, "draining"),
        (("draining", "starting"), 503, "starting"),
    ],
)
def test_the_status_word(
    client: FlaskClient, workers: Workers, states: tuple[str, ...], code: int, word: str
) -> None:
    for number, state in enumerate(states):
        announce(workers, id=f"worker-{number}", state=state)
    status, report = health(client)
    assert (status, report["status"]) == (code, word)


def test_redis_down_is_a_503_report(redis_server: RedisServer, settings: Settings) -> None:
    settings = settings.model_copy(update={"redis_url": redis_server.url})
    store = JobStore.connect(settings)
    app = create_app(settings, store, Workers(store), open_artifacts(settings))
    redis_server.kill()
    status, report = health(app.test_client())
    assert status == 503
    assert (report["status"], report["store"]) == ("degraded", "unavailable")


def test_storage_down_is_degraded_and_still_200(
    s3_app: Callable[..., tuple[FlaskClient, JobStore, ArtifactStore]],
) -> None:
    client, _, _ = s3_app(s3_secret_access_key="wrong-secret")
    with capture_logs() as lines:
        status, report = health(client)
    assert (status, report["status"]) == (200, "degraded")
    assert report["storage"] == {"kind": "s3", "status": "unavailable"}
    assert any("403" in line.get("reason", "") for line in lines), "the log has the cause"
    assert not any("wrong-secret" in str(line) for line in lines)


def test_the_storage_is_looked_at_once_and_never_waited_for_long(tmp_path: Path) -> None:
    class Slow:
        """A store whose check hangs until let go."""

        def __init__(self) -> None:
            self.let_go, self.looks = threading.Event(), 0

        def check(self) -> None:
            self.looks += 1
            assert self.let_go.wait(60)

    slow = Slow()
    watch = StorageWatch(slow)  # type: ignore[arg-type]  # only check is asked for
    assert watch.state() == "unknown"
    assert watch.state() == "unknown"
    slow.let_go.set()
    assert watch.state() == "ok"
    assert watch.state() == "ok"
    assert slow.looks == 1
