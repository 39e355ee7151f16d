"""A closed-loop HTTP load from one thread: every connection sends its next request at its answer.

Prebuilt bytes and one selector, because a client that costs more than the server measures itself.
"""

from __future__ import annotations

import re
import selectors
import socket
import time
from collections import Counter
from dataclasses import dataclass, field

_LENGTH = re.compile(rb"content-length: (\d+)", re.IGNORECASE)


@dataclass
class Connection:
    """One client."""

    socket: socket.socket
    got: bytearray = field(default_factory=bytearray)


def load(host: str, port: int, request: bytes, *, connections: int, seconds: float) -> Counter[int]:
    """Answers by status within `seconds`, of `connections` clients that never pause."""
    answers: Counter[int] = Counter()
    with selectors.DefaultSelector() as selector:
        for _ in range(connections):
            opened = socket.create_connection((host, port))
            opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            opened.sendall(request)
            selector.register(opened, selectors.EVENT_READ, Connection(opened))
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for key, _ in selector.select(timeout=0.1):
                client: Connection = key.data
                chunk = client.socket.recv(65536)
                if not chunk:
                    raise ConnectionError("the API closed a connection")
                client.got += chunk
                status = _answer(client.got)
                if status:
                    answers[status] += 1
                    client.got.clear()
                    client.socket.sendall(request)
        for key in list(selector.get_map().values()):
            key.data.socket.close()
    return answers


def request_bytes(method: str, path: str, key: str, body: bytes = b"") -> bytes:
    """One HTTP/1.1 request."""
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _answer(got: bytearray) -> int:
    """The status once the answer is whole, else 0."""
    head, gap, body = got.partition(b"\r\n\r\n")
    length = _LENGTH.search(head)
    if not gap or length is None or len(body) < int(length[1]):
        return 0
    return int(head[9:12])
