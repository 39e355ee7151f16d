"""Fixtures that several rooms share. Each real part has its own module under tests/fixtures."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest_plugins = [
    "tests.fixtures.gangs",
    "tests.fixtures.ranks",
    "tests.fixtures.redis",
    "tests.fixtures.s3",
    "tests.fixtures.sentinel",
    "tests.fixtures.tls",
    "tests.fixtures.tiny_wan",
    "tests.fixtures.tiny_families",
    "tests.fixtures.webhooks",
]


WHOLE_SERVICES = (
    "browser/",
    "chaos/",
    "ops/test_demo",
    "ops/test_serve.py",
    "pipeline/test_ga",
    "pipeline/test_generator",
    "worker/test_main.py",
)
"""Files whose tests take long, by how their paths under tests/ begin."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the longest files: of two workers, none waits at the end while the other has one."""
    here = Path(__file__).parent
    items.sort(key=lambda item: not str(item.path.relative_to(here)).startswith(WHOLE_SERVICES))


def pytest_sessionstart() -> None:
    """Let the processes of tests hear Ctrl-C, which a shell's background job ignores and hands down."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def own_settings() -> Iterator[None]:
    """A command run inside a test sets `RUSHES_*` for its children: they end with the test."""
    before = {name: value for name, value in os.environ.items() if name.startswith("RUSHES_")}
    yield
    for name in [name for name in os.environ if name.startswith("RUSHES_")]:
        del os.environ[name]
    os.environ.update(before)
