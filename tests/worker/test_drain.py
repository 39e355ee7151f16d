"""When a worker leaves, and with which exit code. (How: tests/worker/test_main.py.)"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from worker.drain import Leave


@pytest.fixture
def leave() -> Iterator[Leave]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    hook = threading.excepthook
    leave = Leave()
    leave.listen()
    yield leave
    for number, handler in handlers.items():
        signal.signal(number, handler)
    threading.excepthook = hook


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_leaves_well(leave: Leave, number: signal.Signals) -> None:
    signal.raise_signal(number)
    signal.raise_signal(number)
    leave.broken()  # what breaks on the way out does not count

    assert leave.wait() == 0


def test_a_worker_whose_thread_broke_leaves_to_be_started_again(
    leave: Leave, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise LookupError("of mine")

    thread = threading.Thread(target=fail, name="beat")
    thread.start()
    thread.join()

    assert leave.wait() == 1
    assert "of mine" in capsys.readouterr().out
