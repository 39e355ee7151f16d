"""Whom a webhook may reach."""

from __future__ import annotations

import socket

import pytest

from jobs.webhooks import check_webhook_url
from jobs.webhooks.delivery import Sender
from jobs.webhooks.target import is_public
from pipeline.limits import RequestError
from tests.fixtures.webhooks import Receiver
from tests.jobs.webhooks.making import hook, settings


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "[::ffff:127.0.0.1]", "0"])
def test_a_private_target_is_refused_at_the_connection(receiver: Receiver, host: str) -> None:
    outcome = Sender(settings(webhook_private=False)).post(hook(receiver.url(host=host)))
    assert outcome.status is None
    assert "no public address" in outcome.reason
    assert receiver.received == []


def test_a_name_that_turns_private_is_refused_and_resolved_once(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter(["127.0.0.1", "93.184.216.34"])
    asked = []

    def resolve(host: str, port: int, **_: object) -> list[object]:
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    url = receiver.url(host="rebinding.example.com")
    assert "no public address" in Sender(settings(webhook_private=False)).post(hook(url)).reason
    assert asked == ["rebinding.example.com"]
    assert receiver.received == []


@pytest.mark.parametrize(
    ("address", "public_"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.169.254", False),
        ("224.0.0.1", False),
        ("0.0.0.0", False),
        ("::1", False),
        ("fe80::1%lo", False),
        ("fd00::1", False),
        ("::ffff:10.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
    ],
)
def test_public_addresses(address: str, public_: bool) -> None:
    assert is_public(address) is public_


def test_a_good_url_is_taken_as_it_is() -> None:
    for url in (
        "https://example.com/hook?a=b",
        "http://93.184.216.34:8080/",
        "https://[2606:2800::1]/",
    ):
        assert check_webhook_url(url, settings(webhook_private=False)) == url
    assert check_webhook_url("http://127.0.0.1:9/", settings())


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("ftp://example.com/", "must be an http or https URL"),
        ("example.com/hook", "must be an http or https URL"),
        ("https:///hook", "must be an http or https URL"),
        ("https://example.com:99999/", "must be a URL"),
        ("https://[::1/", "must be a URL"),
        ("https://user:hunter2@example.com/", "must not hold credentials"),
        ("https://exa mple.com/", "must be plain ASCII"),
        ("https://example.com/\r\nx: y", "must be plain ASCII"),
        ("https://exämple.com/", "must be plain ASCII"),
        ("https://example.com/" + "a" * 2048, "must have at most 2048 characters"),
        ("http://localhost/", "must not name a private"),
        ("http://169.254.169.254/latest", "must not name a private"),
        ("http://[::1]/", "must not name a private"),
    ],
)
def test_a_bad_url_is_refused_at_submit_and_not_echoed(url: str, allowed: str) -> None:
    with pytest.raises(RequestError) as caught:
        check_webhook_url(url, settings(webhook_private=False))
    assert caught.value.field == "webhook_url"
    assert caught.value.allowed.startswith(allowed)
    assert caught.value.value is None


def test_without_a_secret_no_webhook_is_offered() -> None:
    with pytest.raises(RequestError, match="RUSHES_WEBHOOK_SECRET"):
        check_webhook_url("https://example.com/", settings(webhook_secret=None))
