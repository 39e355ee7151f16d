"""The page as a browser asks for it; what it does there is tests/browser's."""

from __future__ import annotations

import re

import pytest
from flask.testing import FlaskClient


def test_runs_only_what_comes_from_here(client: FlaskClient) -> None:
    page = client.get("/", buffered=True)
    assert page.status_code == 200
    assert page.content_type == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"].split("; ")
    assert {"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} <= set(policy)
    assert not re.search(r'(src|href)="(https?:)?//| style=| on[a-z]+=|<style|<script>', page.text)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("main.js", "text/javascript"), ("page.css", "text/css"), ("favicon.svg", "image/svg+xml")],
)
def test_what_it_loads_is_asked_for_again_and_sent_once(
    client: FlaskClient, name: str, kind: str
) -> None:
    first = client.get(f"/page/{name}", buffered=True)
    assert (first.status_code, first.mimetype) == (200, kind)
    assert first.headers["cache-control"] == "no-cache"
    again = client.get(f"/page/{name}", headers={"if-none-match": first.headers["etag"]})
    assert again.status_code == 304


def test_gives_away_no_other_file(client: FlaskClient) -> None:
    assert client.get("/page/../__init__.py").status_code == 404
    assert client.get("/page/%2e%2e/__init__.py").status_code == 404
