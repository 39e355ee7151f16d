import os
import sys
from pathlib import Path

import pytest

from ops.stack.part import BACKOFF_S, Child, Part
from tests.fixtures.waiting import wait_for


def child(*command: str) -> Child:
    return Child(Part(name="part", command=command, env=dict(os.environ)))


def test_its_output_can_be_read_and_its_end_is_found_once() -> None:
    part = child(sys.executable, "-c", "print('hello')")
    output = part.start()
    with os.fdopen(output, "rb") as file:
        assert file.read() == b"hello\n"
    assert part.process is not None
    pid = part.process.pid
    ends: list[tuple[int, int]] = []

    def reaped() -> bool:
        ended = part.reap()
        if ended is not None:
            ends.append(ended)
        return bool(ends)

    wait_for(reaped, "the end is found")
    assert ends == [(pid, 0)]
    assert part.reap() is None
    assert part.process is None


def test_a_start_that_fails_leaves_nothing_open_and_is_due_later(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def no_memory(*_: object, **__: object) -> None:
        raise BlockingIOError("no memory")

    monkeypatch.setattr("ops.stack.part.subprocess.Popen", no_memory)
    part = child("true")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for pause_s in BACKOFF_S[:3]:
        with pytest.raises(BlockingIOError):
            part.start()
        assert part.due - part.started == pytest.approx(pause_s, abs=0.1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_stop_and_kill_without_a_process_are_nothing() -> None:
    part = child("true")
    part.terminate()
    part.kill()
    assert part.reap() is None
