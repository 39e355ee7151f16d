"""A real Chromium before a real service: one of each for every test here."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect, sync_playwright

from ops.local import LocalService

START_S = 180.0
PATIENCE_MS = 120_000
FLAGS = (
    "--no-sandbox",  # containers and CI run as root
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, tiny_families: Path) -> Iterator[str]:
    """The address of `rushes serve` with a tiny model that takes text and images."""
    home = tmp_path_factory.mktemp("browser") / "home"
    model = tiny_families / "wan_ti2v"
    arguments = ["--model-path", str(model), "--served-model-name", "tiny", "--num-gpus", "1"]
    with LocalService(home, arguments) as running:
        running.wait_ready(START_S)
        yield running.url


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    path = shutil.which("chromium")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no chromium: apt-get install chromium")
        pytest.skip("no chromium: apt-get install chromium")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=list(FLAGS))
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser, service: str) -> Iterator[Page]:
    """The page, open; whatever it complains about on its console is an error."""
    expect.set_options(timeout=PATIENCE_MS)
    context = chromium.new_context(base_url=service)
    page = context.new_page()
    complaints: list[str] = []

    def listen(said: ConsoleMessage) -> None:
        # What the API refuses is told there by the browser itself.
        if said.type == "error" and not said.text.startswith("Failed to load resource"):
            complaints.append(said.text)

    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", listen)
    page.goto("/")
    expect(page.locator("#size")).to_be_enabled()
    yield page
    context.close()
    assert complaints == []
