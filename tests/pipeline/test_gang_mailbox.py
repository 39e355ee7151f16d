"""Rank 0's ear and every rank's voice, over real pipes."""

from __future__ import annotations

import os

import pytest

from pipeline.gang.mailbox import Mailbox, Outbox
from pipeline.gang.protocol import (
    Cancel,
    Failed,
    Init,
    Message,
    ProtocolError,
    Stop,
    decode_from_rank,
    encode,
)
from pipeline.options import EngineOptions
from tests.fixtures.waiting import wait_for

INIT = Init(options=EngineOptions(model_path="/models/demo"), num_gpus=2)


class Parent:
    """The other end."""

    def __init__(self) -> None:
        ours, self._fd = os.pipe()
        self.mailbox = Mailbox(ours)

    def say(self, message: Message | bytes) -> None:
        os.write(self._fd, message if isinstance(message, bytes) else encode(message))

    def leave(self) -> None:
        os.close(self._fd)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"type":"init","version":99,"hello":1}\n', "version 99, this rank speaks 2"),
        (b"hello\n", "expected init"),
        (b"[]\n", "expected init"),
        (b"", "expected init"),
        (b'{"type":"init","version":2}\n', "cannot read"),
    ],
)
def test_a_parent_of_another_kind_is_refused_in_words(line: bytes, why: str) -> None:
    parent = Parent()
    parent.say(line)
    parent.leave()

    with pytest.raises(ProtocolError, match=why):
        parent.mailbox.init()


def test_a_cancel_is_heard_while_nobody_takes_the_next_run() -> None:
    parent = Parent()
    parent.say(INIT)
    assert parent.mailbox.init() == INIT

    assert not parent.mailbox.stop_requested("r")
    parent.say(Cancel(run_id="r"))

    wait_for(lambda: parent.mailbox.stop_requested("r"), "the cancel is heard")
    assert not parent.mailbox.stop_requested("another")
    parent.leave()


@pytest.mark.parametrize("told", [True, False], ids=["told", "the pipe broke"])
def test_to_leave_stops_the_run_and_ends_the_waiting(told: bool) -> None:
    parent = Parent()
    parent.say(INIT)
    parent.mailbox.init()

    if told:
        parent.say(Stop())
    parent.leave()

    assert parent.mailbox.next() is None
    assert parent.mailbox.stop_requested("any")


def test_a_rank_speaks_in_whole_lines_and_to_nobody_if_nobody_is_there() -> None:
    ours, theirs = os.pipe()
    outbox = Outbox(theirs)
    failed = Failed(run_id="r", code="error", message="x" * 100)

    outbox.send(failed)
    with os.fdopen(ours, "rb") as pipe:
        assert decode_from_rank(pipe.readline()) == failed
    outbox.send(failed)
    os.close(theirs)
