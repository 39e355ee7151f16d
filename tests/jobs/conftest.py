"""Parts that this room's tests share."""

from __future__ import annotations

import pytest

from jobs.relay.board import Board
from jobs.store import JobStore
from jobs.workers import Workers
from tests.jobs import making


@pytest.fixture
def store(redis_url: str) -> JobStore:
    return JobStore.connect(making.settings(redis_url))


@pytest.fixture
def workers(store: JobStore) -> Workers:
    return Workers(store)


@pytest.fixture
def board(store: JobStore) -> Board:
    """A relay's side that leads."""
    leading = Board(store, token="me")
    assert leading.lead(600)
    return leading
