"""One delivery over real HTTP: what counts as success, and when a receiver is left."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

import pytest

from jobs.webhooks.delivery import DELAYS_S, THROTTLE_S, Outcome, Sender, delay_s
from tests.fixtures.webhooks import Receiver
from tests.jobs.webhooks.making import hook, settings


def test_the_schedule() -> None:
    failed = Outcome(500)
    delays = [delay_s(failed, attempts, lambda: 0.0) for attempts in range(1, 11)]
    assert delays == [*DELAYS_S, None]
    assert delay_s(failed, 1, lambda: 1.0) == pytest.approx(5.5)
    assert delay_s(Outcome(410), 1, lambda: 0.0) is None, "the receiver wants no more"
    assert delay_s(Outcome(429, retry_after_s=60), 1, lambda: 0.0) == 60
    assert delay_s(Outcome(503, retry_after_s=1), 1, lambda: 0.0) == 5
    for status in (429, 502, 504):
        assert delay_s(Outcome(status), 1, lambda: 0.0) == THROTTLE_S
    assert Outcome(500).throttle_s == 0


@pytest.mark.parametrize("status", [199, 301, 302, 307, 308, 400, 404, 500])
def test_only_2xx_is_success(status: int) -> None:
    assert not Outcome(status).delivered


def test_a_redirect_is_not_followed(receiver: Receiver) -> None:
    receiver.answers = [307]
    receiver.headers = {"location": receiver.url("/elsewhere"), "retry-after": "7"}
    outcome = Sender(settings()).post(hook(receiver.url()))
    assert outcome == Outcome(307, retry_after_s=7)
    assert [got.path for got in receiver.received] == ["/hook"]


def test_a_receiver_that_drips_is_left_after_the_timeout() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                while not stop.wait(0.05):
                    try:
                        connection.send(b"H")
                    except OSError:
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        start = time.monotonic()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        outcome = Sender(settings(webhook_timeout_s=0.5)).post(hook(url))
        stop.set()
        thread.join()
    assert outcome.status is None
    assert time.monotonic() - start < 10


def test_nobody_listening_and_no_such_name_are_failures() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    for url in (f"http://127.0.0.1:{port}/", "http://no-such-name.invalid/", f"http://{'a' * 70}/"):
        outcome = Sender(settings()).post(hook(url))
        assert outcome.status is None
        assert outcome.reason


def test_a_receiver_that_sends_headers_without_end_is_left() -> None:
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def flood() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 200 OK\r\n")
                while not stop.is_set():
                    connection.sendall(b"x-more: " + b"y" * 1000 + b"\r\n")

        thread = threading.Thread(target=flood)
        thread.start()
        outcome = Sender(settings()).post(hook(f"http://127.0.0.1:{listener.getsockname()[1]}/"))
        stop.set()
        thread.join()
    assert (outcome.status, outcome.reason.partition(":")[0]) == (None, "RemoteProtocolError")
