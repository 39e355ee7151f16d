"""Where Redis is: one server, by plain TCP or TLS, or whichever server the Sentinels call the master.

`redis://`, `rediss://` and `unix://` as redis-py reads them. With Sentinels:
`redis+sentinel://[user:password@]host[:port],host[:port].../service[/db]`, the same as `sentinel://`;
`rediss+sentinel://` speaks TLS with Sentinels and servers. `sentinel_username` and
`sentinel_password` in the query are for the Sentinels, all else is for the servers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote, urlsplit

import redis
from redis.connection import parse_url

_SENTINEL_PORT = 26379
_SENTINEL_SCHEMES = ("sentinel", "redis+sentinel", "rediss+sentinel")


@dataclass(frozen=True)
class Address:
    """A Redis URL, read."""

    url: str = field(repr=False)
    options: dict[str, Any] = field(repr=False)
    """Of a connection to the server, as redis-py names them: db, username, password, ssl_..."""
    tls: bool
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    """What the Sentinels call the master."""
    sentinel_options: dict[str, Any] = field(default_factory=dict, repr=False)
    """Of a connection to a Sentinel."""

    @property
    def ssl(self) -> dict[str, Any]:
        """What is said about certificates; they are checked unless that says otherwise."""
        given = {name: value for name, value in self.options.items() if name.startswith("ssl_")}
        return {"ssl_cert_reqs": "required"} | given if self.tls else {}

    @property
    def broker_url(self) -> str:
        """The same for kombu, without what is said of TLS and Sentinels apart from it."""
        if not self.sentinels:
            head, _, _ = self.url.partition("?") if self.tls else (self.url, "", "")
            return head.replace("rediss://", "redis://", 1)
        user, password = (
            quote(self.options.get(name, ""), safe="") for name in ("username", "password")
        )
        login = f"{user}:{password}@" if user or password else ""
        db = self.options.get("db", 0)
        return ";".join(f"sentinel://{login}{host}:{port}/{db}" for host, port in self.sentinels)


def read(url: str) -> Address:
    """Read RUSHES_REDIS_URL.

    Raises:
        ValueError: it cannot be read; without the URL, which may hold a password.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in _SENTINEL_SCHEMES:
        options = parse_url(url)  # type: ignore[no-untyped-call]
        db = urlsplit(url).path.removeprefix("/")
        if scheme != "unix" and db and not db.isdecimal():
            # redis-py would take database 0.
            raise ValueError("after the server it must read nothing or /db, a number")
        tls = options.pop("connection_class", None) is redis.SSLConnection
        return Address(url, options, tls)
    parts = urlsplit(f"//{rest}")
    login, _, hosts = parts.netloc.rpartition("@")
    service, _, db = parts.path.strip("/").partition("/")
    if not service or (db and not db.isdecimal()):
        raise ValueError("after the Sentinels it must read /service or /service/db")
    tls = scheme.startswith("rediss")
    server = f"redis://{login}@/{db or 0}?{parts.query}"
    options = parse_url(server)  # type: ignore[no-untyped-call]
    of_sentinels = {
        name: options.pop(f"sentinel_{name}")
        for name in ("username", "password")
        if f"sentinel_{name}" in options
    }
    found = Address(url, options, tls, tuple(map(_sentinel, hosts.split(","))), service)
    of_sentinels |= {"ssl": True, **found.ssl} if tls else {}
    return Address(url, options, tls, found.sentinels, service, of_sentinels)


def _sentinel(text: str) -> tuple[str, int]:
    """A Sentinel's host and port."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError("each Sentinel must read host or host:port, with commas between them")
    return parts.hostname, parts.port or _SENTINEL_PORT
