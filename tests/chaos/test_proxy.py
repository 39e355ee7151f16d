"""A link between a client and a real server: open, cut, held, healed."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from tests.chaos.proxy import Link, Network
from tests.fixtures.waiting import wait_for


@pytest.fixture
def link() -> Iterator[Link]:
    """To a server that sends back what it gets."""
    server = socket.create_server(("127.0.0.1", 0))

    def echo(end: socket.socket) -> None:
        with end:
            try:
                while chunk := end.recv(1024):
                    end.sendall(chunk)
            except ConnectionError:
                return

    def accept() -> None:
        while True:
            try:
                end = server.accept()[0]
            except OSError:
                return
            threading.Thread(target=echo, args=(end,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    network = Network()
    yield network.link("test", server.getsockname()[1])
    network.close()
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def connect(link: Link) -> socket.socket:
    return socket.create_connection(("127.0.0.1", link.port), timeout=5)


def test_what_is_sent_comes_through_and_what_is_watched_is_noticed(link: Link) -> None:
    link.watch(b"running")
    after = threading.Event()
    link.after_answer(after.set)
    with connect(link) as client:
        client.sendall(b"hello")
        assert client.recv(10) == b"hello"
        assert not after.is_set()
        assert not link.seen_within(60)
        client.sendall(b"running")
        assert client.recv(10) == b"running"
        wait_for(after.is_set, "the answer passed")
        assert link.seen_within(60)


def test_a_cut_breaks_what_is_open_and_refuses_what_is_new(link: Link) -> None:
    with connect(link) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        link.cut()
        assert is_broken(client)
        with connect(link) as second:
            assert is_broken(second)
    link.heal()
    with connect(link) as client:
        client.sendall(b"b")
        assert client.recv(1) == b"b"


def test_what_is_held_comes_through_once_it_heals(link: Link) -> None:
    with connect(link) as client:
        client.sendall(b"a")
        assert client.recv(1) == b"a"
        link.hold()
        client.sendall(b"b")
        client.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.recv(1)
        client.settimeout(5)
        link.heal()
        assert client.recv(1) == b"b"


def test_what_is_slow_comes_through_whole_and_at_its_pace(link: Link) -> None:
    sent = bytes(range(256)) * 4
    with connect(link) as client:
        link.slow(2 * len(sent))
        began = time.monotonic()
        client.sendall(sent)
        assert received(client, len(sent)) == sent
        assert time.monotonic() - began > 0.4
        link.slow(1)
        client.sendall(sent)
        link.heal()
        assert received(client, len(sent)) == sent


def received(client: socket.socket, size: int) -> bytes:
    found = b""
    while len(found) < size:
        found += client.recv(size)
    return found


def is_broken(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True
