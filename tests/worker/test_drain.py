"""When a worker leaves, and with which exit code. (How: tests/worker/test_main.py.)"""

from __future__ import annotations

import signal
import subprocess
import sys
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
    signal.set_wakeup_fd(-1)
    leave.close()
    for number, handler in handlers.items():
        signal.signal(number, handler)
    threading.excepthook = hook


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_leaves_well(leave: Leave, number: signal.Signals) -> None:
    signal.raise_signal(number)
    signal.raise_signal(number)
    leave.broken()  # what breaks on the way out does not count

    assert leave.wait() == 0


SCRIPT = """
import sys, threading, time
from worker.drain import Leave

def busy():
    while True:
        time.sleep(0.001)

leave = Leave()
leave.listen()
for _ in range(8):
    threading.Thread(target=busy, daemon=True).start()
print("up", flush=True)
sys.exit(leave.wait())
"""


def test_no_signal_is_missed_among_many_threads() -> None:
    """A handler alone missed one in ten: the kernel may give it to any thread."""
    command = [sys.executable, "-c", SCRIPT]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(6)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
            process.send_signal(number)

    assert [process.communicate(timeout=20) and process.returncode for process in processes] == [
        0
    ] * 6


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
