"""The API as it ships: gunicorn in a process of its own, spoken to over HTTP."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path

import httpx
import pytest

from api.server import run
from jobs.artifacts import open_artifacts
from jobs.errors import SettingsError
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.conftest import MAX_BODY_BYTES
from tests.api.serving import Server, serving
from tests.api.worker import announce, finish
from tests.fixtures.waiting import wait_for


@pytest.fixture
def server(settings: Settings, tmp_path: Path) -> Iterator[Server]:
    with serving(settings, tmp_path / "log") as server:
        yield server


def test_a_job_goes_round_over_http(
    server: Server, settings: Settings, store: JobStore, workers: Workers, tmp_path: Path
) -> None:
    announce(workers)
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(os.urandom(3 * 2**20))
    with httpx.Client(base_url=server.url) as client:
        assert client.get("/health").status_code == 200
        form = {"prompt": (None, "a red circle"), "seconds": (None, "1")}
        created = client.post("/v1/videos", files=form)
        assert created.status_code == 200
        job_id = created.json()["id"]
        finish(store, open_artifacts(settings), job_id, clip)
        assert client.get(f"/v1/videos/{job_id}").json()["status"] == "completed"
        path = f"/v1/videos/{job_id}/content"
        assert client.get(path).content == clip.read_bytes()
        part = client.get(path, headers={"range": "bytes=1000000-1999999"})
        assert (part.status_code, part.content) == (206, clip.read_bytes()[1000000:2000000])
        assert client.head(path).headers["content-length"] == str(clip.stat().st_size)
        assert client.get("/v1/videos?limit=1&secret=hidden").status_code == 400

    lines = server.log().splitlines()
    (created_line,) = [line for line in lines if "POST /v1/videos 200" in line]
    assert f"request_id={created.headers['x-request-id']}" in created_line
    (accepted_line,) = [line for line in lines if "job accepted" in line]
    assert f"request_id={created.headers['x-request-id']}" in accepted_line
    assert job_id in accepted_line
    assert "hidden" not in server.log(), "queries are not logged"
    assert "GET /health" not in server.log(), "what is polled is not logged"


def test_a_body_that_does_not_come_is_408(settings: Settings, tmp_path: Path) -> None:
    settings = settings.model_copy(update={"body_s": 0.2})
    with serving(settings, tmp_path / "log"):
        for kind in ("application/json", "multipart/form-data; boundary=x"):
            client = HTTPConnection("127.0.0.1", settings.port, timeout=60)
            with closing(client):
                client.putrequest("POST", "/v1/videos")
                client.putheader("content-type", kind)
                client.putheader("content-length", "99")
                client.endheaders(b"--x")
                answer = client.getresponse()
                assert answer.status == 408
                error = json.loads(answer.read())["error"]
                assert (error["code"], error["type"]) == (
                    "request_timeout",
                    "invalid_request_error",
                )
                assert "within 0.2 s" in error["message"]


def test_a_body_over_the_limit_is_413_also_without_a_length(
    server: Server, workers: Workers
) -> None:
    announce(workers)
    big = b'{"prompt": "' + b"x" * MAX_BODY_BYTES + b'"}'
    headers = {"content-type": "application/json"}
    for content in (big, iter([big[:1000], big[1000:]])):
        answer = httpx.post(f"{server.url}/v1/videos", content=content, headers=headers)
        assert answer.status_code == 413
        assert answer.json()["error"]["code"] == "request_entity_too_large"
    small = iter([b'{"prompt": ', b'"x"}'])
    answer = httpx.post(f"{server.url}/v1/videos", content=small, headers=headers)
    assert answer.status_code == 200


def test_streams_hold_connections_and_no_threads(
    server: Server, settings: Settings, store: JobStore, workers: Workers
) -> None:
    announce(workers)
    job_id = httpx.post(f"{server.url}/v1/videos", json={"prompt": "x"}).json()["id"]
    request = f"GET /v1/videos/{job_id}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()
    streams = [socket.create_connection(("127.0.0.1", settings.port)) for _ in range(200)]
    try:
        for stream in streams:
            stream.settimeout(20)
            stream.sendall(request)
        for stream in streams:
            assert b'"status":"queued"' in until(stream, b'"status":"queued"')
        began = time.monotonic()
        assert httpx.get(f"{server.url}/v1/videos/{job_id}").status_code == 200
        assert time.monotonic() - began < 5
        store.cancel(job_id)
        for stream in streams:
            assert b'"status":"cancelled"' in until(stream, b'"status":"cancelled"')
    finally:
        for stream in streams:
            stream.close()


def until(stream: socket.socket, mark: bytes) -> bytes:
    """What comes, as soon as `mark` is in it."""
    got = b""
    while mark not in got:
        chunk = stream.recv(65536)
        assert chunk, got
        got += chunk
    return got


def test_what_is_no_http_harms_nobody(server: Server, settings: Settings) -> None:
    with socket.create_connection(("127.0.0.1", settings.port)) as connection:
        connection.sendall(b"\x16\x03\x01 nonsense \x1b[31m\r\n\r\n")
        assert b"400" in connection.recv(1000)
    assert server.alive()


def test_sigterm_ends_what_is_answered_and_then_the_server(
    server: Server, settings: Settings, store: JobStore, workers: Workers, tmp_path: Path
) -> None:
    announce(workers)
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(os.urandom(16 * 2**20))  # more than socket buffers hold
    job_id = httpx.post(f"{server.url}/v1/videos", json={"prompt": "x"}).json()["id"]
    finish(store, open_artifacts(settings), job_id, clip)
    with httpx.stream("GET", f"{server.url}/v1/videos/{job_id}/content") as answer:
        chunks = answer.iter_bytes()
        got = bytearray(next(chunks))
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        wait_for(lambda: not answers(server.url), "nobody new is answered")
        for chunk in chunks:
            got += chunk
    assert got == clip.read_bytes()
    assert server.process.wait(timeout=20) == 0, server.log()
    assert time.monotonic() - began < 10


def answers(url: str) -> bool:
    """A stopping gunicorn leaves new connections in the kernel's queue."""
    try:
        return httpx.get(f"{url}/livez", timeout=0.5).status_code == 200
    except httpx.TransportError:
        return False


def test_without_redis_it_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="RUSHES_REDIS_URL"):
        run(Settings(home=tmp_path))


def test_killed_it_leaves_nobody_on_the_port(server: Server, settings: Settings) -> None:
    server.process.kill()
    server.process.wait()
    wait_for(lambda: not listens(settings.port), "the processes notice that their parent is gone")


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_no_model_library_is_loaded_and_little_time_is_spent() -> None:
    heavy = ("torch", "diffusers", "transformers", "numpy", "boto3", "av")
    code = (
        "import sys, time, api.app, api.server; "
        f"print([m for m in {heavy!r} if m in sys.modules], time.process_time())"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout
    loaded, cpu_s = output.rsplit(maxsplit=1)
    assert loaded == "[]"
    assert float(cpu_s) < 2, "CPU time, whoever shares the cores; torch alone costs more"
