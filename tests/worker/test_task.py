"""The task where the worker itself is in trouble; that it works is shown by real workers."""

from __future__ import annotations

import errno
import os
from unittest.mock import Mock

import pytest
from celery.exceptions import Ignore

from jobs.states import State
from jobs.store import JobStore
from tests.jobs import making
from worker.attempts import Attempts
from worker.task import JobFailed, Worker


def worker(state: State) -> tuple[Worker, Mock]:
    """A worker whose disk is full, and a store that lets the try end so."""
    store = Mock(spec=JobStore)
    store.claim.return_value = making.job().model_copy(update={"fence": "1-aa"})
    store.retry.return_value = state
    attempts = Mock(spec=Attempts)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/home/me/.rushes/attempts")
    attempts.directory.side_effect = full
    parts = {name: Mock() for name in Worker.__dataclass_fields__}
    parts["draining"].is_set.return_value = False
    parts["beat"].hold.return_value = Mock(__enter__=Mock(), __exit__=Mock(return_value=None))
    return Worker(**(parts | {"store": store, "attempts": attempts})), store


@pytest.mark.parametrize(
    ("state", "raised"), [(State.QUEUED, Ignore), (State.FAILED, JobFailed)], ids=str
)
def test_a_full_disk_costs_a_try_whose_reason_names_no_path(
    state: State, raised: type[Exception]
) -> None:
    full, store = worker(state)

    with pytest.raises(raised):
        full.perform("video_1", 1)

    error = store.retry.call_args.args[2]
    assert error.code == "worker_error"
    assert error.message == "the worker failed: No space left on device"
