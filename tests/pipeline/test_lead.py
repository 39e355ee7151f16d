"""What rank 0's log says of how a run ended."""

from __future__ import annotations

import logging
from typing import Literal
from unittest import mock

import pytest

from pipeline.gang import lead
from pipeline.gang.protocol import Failed


@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("cancelled", (logging.INFO, "r: cancelled")),
        ("error", (logging.WARNING, "r: error: why")),
    ],
)
def test_a_cancel_is_told_once_and_is_no_warning(
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    code: Literal["cancelled", "error"],
    told: tuple[int, str],
) -> None:
    failed = Failed(run_id="r", code=code, message="cancelled" if code == "cancelled" else "why")
    monkeypatch.setattr(lead, "_run", lambda *_: failed)
    mailbox = mock.Mock()
    mailbox.next.side_effect = [mock.Mock(run_id="r", items=()), None]
    outbox = mock.Mock()
    with caplog.at_level(logging.INFO, logger=lead.log.name):
        lead.lead(mock.Mock(), mock.Mock(), mailbox, outbox)
    outbox.send.assert_called_once_with(failed)
    lines = [(each.levelno, each.getMessage()) for each in caplog.records]
    assert lines == [(logging.INFO, "r: 0 item(s)"), told]
