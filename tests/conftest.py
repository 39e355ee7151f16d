"""Fixtures that several rooms share. Each real part has its own module under tests/fixtures."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

pytest_plugins = [
    "tests.fixtures.ranks",
    "tests.fixtures.redis",
    "tests.fixtures.s3",
    "tests.fixtures.tiny_wan",
    "tests.fixtures.tiny_families",
    "tests.fixtures.webhooks",
]


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[None]:
    """A command run inside a test sets `RUSHES_*` for its children: they end with the test."""
    before = {name: value for name, value in os.environ.items() if name.startswith("RUSHES_")}
    yield
    for name in [name for name in os.environ if name.startswith("RUSHES_")]:
        del os.environ[name]
    os.environ.update(before)
