"""Whom a client's URL may reach: checked when it is asked for, and again on the address connected to.

A name can point elsewhere by the time of the call (DNS rebinding), so the second check resolves once
and connects to the very address that it has checked. TLS and the Host header keep the name.
"""

from __future__ import annotations

import ipaddress
import socket
import time
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlsplit

import httpcore

from jobs.settings import Settings
from pipeline.limits import RequestError

MAX_URL_CHARS = 2048

_TRANSITION = tuple(map(ipaddress.ip_network, ("2002::/16", "64:ff9b::/96", "64:ff9b:1::/48")))
"""IPv6 addresses that lead to an IPv4 address inside them (6to4, NAT64)."""


class TargetRefused(Exception):
    """The name leads to no address that may be called."""


def check_webhook_url(url: str, settings: Settings) -> str:
    """Hold a client's webhook_url against what may be called; the value is never echoed.

    Raises:
        RequestError: naming webhook_url and what is allowed.
    """
    if settings.webhook_secret is None:
        raise RequestError(
            "webhook_url",
            None,
            "is not offered here: the server has no RUSHES_WEBHOOK_SECRET to sign with",
        )
    return check_url(url, "webhook_url", private=settings.webhook_private)


def check_url(url: str, field: str, *, private: bool) -> str:
    """Hold a client's URL against what may be called at all; the value is never echoed.

    Args:
        url: the client's.
        field: where it is from.
        private: allow private, loopback and link-local addresses.

    Raises:
        RequestError: naming `field` and what is allowed.
    """

    def refuse(allowed: str) -> RequestError:
        return RequestError(field, None, allowed)

    if len(url) > MAX_URL_CHARS:
        raise refuse(f"must have at most {MAX_URL_CHARS} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise refuse("must be plain ASCII, other characters percent-encoded or punycode")
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        raise refuse("must be a URL such as https://example.com/path") from None
    if parts.scheme not in ("http", "https") or not host or port == 0:
        raise refuse("must be an http or https URL such as https://example.com/path")
    if parts.username is not None or parts.password is not None:
        raise refuse("must not hold credentials")
    if not private and _is_private_literal(host):
        raise refuse("must not name a private, loopback or link-local address")
    return url


def is_public(address: str) -> bool:
    """Whether an IP address lies on the public internet."""
    ip = ipaddress.ip_address(address)
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        elif any(ip in network for network in _TRANSITION):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _is_private_literal(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not is_public(host)
    except ValueError:
        return False


class GuardedBackend(httpcore.NetworkBackend):
    """Connects only where it may, and lets a whole delivery last until a deadline at most.

    Args:
        private: allow private, loopback and link-local addresses.
        setting: what would allow them.
        timeout_s: for everything together; a receiver that drips bytes gains nothing.
    """

    def __init__(self, *, private: bool, setting: str, timeout_s: float) -> None:
        self._private = private
        self._setting = setting
        self._deadline = time.monotonic() + timeout_s
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        """Resolve once, check, and connect to the very address that was checked.

        Raises:
            TargetRefused: no address of the host may be called.
        """
        error: Exception = TargetRefused(
            f"{host} leads to no public address; {self._setting} allows others"
        )
        for address in self._resolve(host, port):
            if not self._private and not is_public(address):
                continue
            try:
                stream = self._sockets.connect_tcp(
                    address, port, _left(self._deadline, timeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
                continue
            return _Stream(stream, self._deadline)
        raise error

    def _resolve(self, host: str, port: int) -> list[str]:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise httpcore.ConnectError(f"cannot resolve {host}: {error}") from error
        return [str(entry[4][0]) for entry in found]


class _Stream(httpcore.NetworkStream):
    """A stream whose every operation ends at the deadline."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline, timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline, timeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: Any, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _left(self._deadline, timeout)
        secured = self._stream.start_tls(ssl_context, server_hostname, left)
        return _Stream(secured, self._deadline)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _left(deadline: float, timeout: float | None) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the receiver took too long")
    return left if timeout is None else min(left, timeout)
