"""Images that a client names by their URL."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import pytest

from jobs import fetch as module
from jobs.fetch import fetch
from jobs.settings import Settings
from pipeline.limits import RequestError

IMAGE = b"\x89PNG and more"


class Host:
    """Serves `/image`; elsewhere it is a nuisance."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.done = threading.Event()
        host = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                host.asked.append(self.path)
                if self.path == "/moved":
                    self.send_response(302)
                    self.send_header("location", "/image")
                    self.end_headers()
                    return
                if self.path == "/silent":
                    host.done.wait(60)
                    return
                self.send_response(200 if self.path in ("/image", "/endless") else 404)
                self.end_headers()
                if self.path == "/endless":
                    while not host.done.is_set():
                        try:
                            self.wfile.write(bytes(65536))
                        except OSError:
                            return
                self.wfile.write(IMAGE)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name
                return

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self._server.server_address[1]}{path}"

    def close(self) -> None:
        self.done.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture
def host() -> Iterator[Host]:
    host = Host()
    yield host
    host.close()


def refused(
    url: str, setting: Literal["off", "public", "any"] = "any", *, max_bytes: int = 2**20
) -> str:
    with pytest.raises(RequestError) as error:
        fetch(url, "image", Settings(image_urls=setting), max_bytes=max_bytes)
    assert (error.value.field, error.value.value) == ("image", None)
    return error.value.allowed


def test_fetches_where_that_is_allowed(host: Host) -> None:
    assert fetch(host.url("/image"), "image", Settings(image_urls="any"), max_bytes=13) == IMAGE
    assert "the server fetches no URLs here" in refused(host.url("/image"), "off")
    assert host.asked == ["/image"]


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]"])
def test_private_addresses_are_not_asked(host: Host, name: str) -> None:
    words = refused(host.url("/image", name), "public")
    assert re.search("private, loopback|no public address", words)
    assert host.asked == []


def test_the_address_that_is_connected_to_is_the_one_checked(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = [(2, 1, 6, "", ("127.0.0.1", 80))]
    monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: resolved)
    words = refused("http://pictures.example.com/image", "public")
    assert "no public address; RUSHES_IMAGE_URLS=any allows others" in words


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/nowhere", "its host answered 404"),
        ("/moved", "its host answered 302"),
        ("/endless", "may have at most 100000 bytes"),
    ],
)
def test_other_answers_are_refused(host: Host, path: str, words: str) -> None:
    assert words in refused(host.url(path), max_bytes=100_000)


def test_a_host_that_does_not_answer_is_not_waited_for(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FETCH_S", 0.2)
    assert "cannot be fetched: ReadTimeout" in refused(host.url("/silent"))
    assert "cannot be fetched: ConnectError" in refused("http://127.0.0.1:1/image")
