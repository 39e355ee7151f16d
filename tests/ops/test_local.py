"""Waiting for a `rushes serve` of one's own, which an HTTP server plays here."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from ops.local import LocalError, LocalService


class Played:
    """A service that answers /health with these, one after the other, the last one for good."""

    def __init__(self, home: Path) -> None:
        self.answers: list[tuple[int, dict[str, Any]]] = []
        played = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                answers = played.answers
                status, body = answers.pop(0) if len(answers) > 1 else answers[0]
                self.send_response(status)
                self.end_headers()
                self.wfile.write(json.dumps(body).encode())

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name
                return

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.service = LocalService(home)
        self.service.url = f"http://127.0.0.1:{self.server.server_port}"
        self.service.process = subprocess.Popen(["sleep", "600"])


@pytest.fixture
def played(tmp_path: Path) -> Iterator[Played]:
    played = Played(tmp_path)
    thread = threading.Thread(target=played.server.serve_forever, args=(0.05,))
    thread.start()
    yield played
    played.service.process.kill()
    played.service.process.wait()
    played.server.shutdown()
    played.server.server_close()
    thread.join()


def gangs(*states: str) -> dict[str, Any]:
    return {"gangs": [{"state": state} for state in states]}


def test_it_waits_until_a_gang_is_ready(played: Played) -> None:
    played.answers = [(503, {"status": "degraded"}), (503, gangs("starting")), (200, gangs())]
    played.service.wait_ready(60)


def test_a_gang_that_cannot_start_ends_the_wait(played: Played) -> None:
    played.answers = [(503, gangs("starting")), (503, gangs("starting", "unhealthy"))]
    with pytest.raises(LocalError, match="the gang cannot start"):
        played.service.wait_ready(60)


def test_a_service_that_ended_or_takes_too_long_ends_the_wait(played: Played) -> None:
    played.answers = [(503, gangs())]
    with pytest.raises(LocalError, match=r"no gang was ready within 0\.2 s"):
        played.service.wait_ready(0.2)
    played.service.process.kill()
    played.service.process.wait()
    with pytest.raises(LocalError, match="rushes serve ended with -9"):
        played.service.wait_ready(60)
