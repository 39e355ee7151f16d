"""Answers that are errors: routes, outages, surprises, ids."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from structlog.testing import capture_logs

from api.app import create_app
from jobs.artifacts import open_artifacts
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.worker import announce
from tests.fixtures.redis import RedisServer


def test_an_unknown_route_is_404_in_openais_shape(client: FlaskClient) -> None:
    answer = client.get("/v2/anything")
    assert answer.status_code == 404
    assert answer.json == {
        "error": {
            "message": "no route GET /v2/anything",
            "type": "invalid_request_error",
            "param": None,
            "code": "not_found",
        }
    }


def test_a_doubled_slash_is_404_in_openais_shape(client: FlaskClient) -> None:
    for path in ("/v1//videos", "/v1/videos//video_1"):
        answer = client.get(f"http://localhost{path}")
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (404, "not_found"), path


def test_a_route_that_only_creates_is_no_jobs(client: FlaskClient) -> None:
    for path in ("/v1/videos/generations", "/v1/images/generations", "/v1/images/edits"):
        for method in ("GET", "DELETE"):
            answer = client.open(path, method=method)
            assert answer.status_code == 405
            assert set(answer.headers["allow"].split(", ")) == {"OPTIONS", "POST"}


def test_openais_variations_are_no_route_and_no_job(client: FlaskClient) -> None:
    for method in ("POST", "GET", "DELETE"):
        answer = client.open("/v1/images/variations", method=method)
        assert answer.status_code == 404
        assert answer.get_json()["error"]["message"] == f"no route {method} /v1/images/variations"


def test_a_method_that_is_not_taken_is_405_and_says_which_are(client: FlaskClient) -> None:
    answer = client.put("/v1/videos")
    assert answer.status_code == 405
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))
    assert answer.get_json()["error"]["code"] == "method_not_allowed"


def test_a_surprise_is_500_without_internals_and_logged(
    app: Flask, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("secret internals")

    monkeypatch.setattr(store, "list", broken)
    with capture_logs() as lines:
        answer = app.test_client().get("/v1/videos")
    assert answer.status_code == 500
    assert answer.get_json()["error"]["type"] == "server_error"
    assert b"secret" not in answer.data
    assert [line["event"] for line in lines] == ["unexpected error"]
    assert str(lines[0]["exc_info"]) == "secret internals"


def test_redis_down_is_503_with_retry_after_and_nothing_is_half_written(
    redis_server: RedisServer, settings: Settings
) -> None:
    settings = settings.model_copy(update={"redis_url": redis_server.url})
    store = JobStore.connect(settings)
    workers = Workers(store)
    announce(workers)
    client = create_app(settings, store, workers, open_artifacts(settings)).test_client()
    job_id = client.post("/v1/videos", json={"prompt": "x"}).get_json()["id"]

    redis_server.kill()
    for method, path in (
        ("POST", "/v1/videos"),
        ("GET", "/v1/videos"),
        ("GET", f"/v1/videos/{job_id}"),
        ("GET", f"/v1/videos/{job_id}/content"),
        ("POST", f"/v1/videos/{job_id}/cancel"),
        ("DELETE", f"/v1/videos/{job_id}"),
        ("GET", "/v1/models"),
        ("GET", "/readyz"),
    ):
        answer = client.open(
            path, method=method, json={"prompt": "y"} if method == "POST" else None
        )
        assert answer.status_code == 503, path
        assert int(answer.headers["retry-after"]) > 0
        assert answer.get_json()["error"]["code"] == "store_unavailable"
        assert str(redis_server.port).encode() not in answer.data, "where Redis is, is ours to know"
    assert client.get("/livez").status_code == 200

    redis_server.start()
    announce(workers)
    assert [job["id"] for job in client.get("/v1/videos").get_json()["data"]] == [job_id]
    assert store.queued() == 1
    assert client.post("/v1/videos", json={"prompt": "x"}).status_code == 200


def test_a_full_queue_is_429_with_retry_after(settings: Settings, workers: Workers) -> None:
    settings = settings.model_copy(update={"max_queued": 2})
    announce(workers)
    app = create_app(settings, JobStore.connect(settings), workers, open_artifacts(settings))
    client = app.test_client()
    answers = [client.post("/v1/videos", json={"prompt": "x"}) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert int(answers[2].headers["retry-after"]) > 0
    assert answers[2].get_json()["error"]["type"] == "rate_limit_error"


def test_every_answer_carries_a_request_id_and_every_log_line_too(served: FlaskClient) -> None:
    first, second = served.get("/livez"), served.get("/nothing")
    assert first.headers["x-request-id"].startswith("req_")
    assert first.headers["x-request-id"] != second.headers["x-request-id"]

    own = served.get("/livez", headers={"x-request-id": "mine-1.2_3"})
    assert own.headers["x-request-id"] == "mine-1.2_3"
    for bad in ("a b", "x" * 101, "é", '"'):
        answer = served.get("/livez", headers={"x-request-id": bad})
        assert answer.headers["x-request-id"].startswith("req_")
