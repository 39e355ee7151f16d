"""Who calls: an API key, or, as long as there are none, anybody whom the address lets in."""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import urlsplit

import structlog
from flask import Flask, Request, g, request

from api.headers import allowed_origins
from jobs.errors import BadKey, Forbidden
from jobs.exposure import is_loopback, is_open
from jobs.keys import Keys, Rights
from jobs.settings import Settings

ANONYMOUS = "anonymous"
GUARDED = ("/v1/", "/metrics")
"""What wants a key as soon as there is one."""
_EVERYBODY = Rights(scope="admin", max_priority=9)


@dataclass(frozen=True)
class Caller:
    """Whose request this is."""

    owner: str
    """Jobs are visible to their owner only."""
    rights: Rights = field(repr=False)
    counted_as: str = ""
    """Whose rate a new job counts against."""


class Door:
    """Lets in or refuses."""

    def __init__(self, settings: Settings, keys: Keys) -> None:
        self._settings = settings
        self._keys = keys

    def install(self, app: Flask) -> None:
        """Ask before each guarded route."""
        app.before_request(self._ask)

    def _ask(self) -> None:
        if request.path.startswith(GUARDED) and request.method != "OPTIONS":
            g.caller = self.caller(request)
            if g.caller.owner == ANONYMOUS:
                self._refuse_other_names(request)
                self._refuse_strangers(request)
            structlog.contextvars.bind_contextvars(owner=g.caller.owner)
            if job_id := (request.view_args or {}).get("job_id"):
                structlog.contextvars.bind_contextvars(job=job_id)

    def caller(self, asking: Request) -> Caller:
        """Who asks.

        Raises:
            BadKey: no key, or none that is known, where one is needed.
        """
        if not self._keys.some():
            if is_open(self._settings):
                return Caller(ANONYMOUS, _EVERYBODY, f"{ANONYMOUS}/{asking.remote_addr}")
            raise BadKey("this service has no API keys yet and serves nobody beyond loopback")
        given = asking.authorization
        if given is None or given.type != "bearer" or not given.token:
            raise BadKey("an API key is needed: send it as `Authorization: Bearer rk_...`")
        key = self._keys.find(given.token)
        if key is None:
            raise BadKey("this API key is not known here, or was revoked")
        return Caller(key.id, key, key.id)

    def _refuse_other_names(self, asking: Request) -> None:
        """Keep out pages whose own name was made to resolve to loopback (DNS rebinding).

        To a browser such a page is of our origin, so that the Host it names is all that tells.

        Raises:
            Forbidden: the Host is neither loopback nor that of RUSHES_PUBLIC_URL.
        """
        if self._settings.open:
            return
        try:
            name = urlsplit(f"//{asking.host}").hostname or ""
        except ValueError:  # brackets around what is no address
            name = ""
        if not is_loopback(name) and name != urlsplit(self._settings.public_url or "").hostname:
            raise Forbidden(
                "without API keys the service answers only to loopback names and to the one in "
                "RUSHES_PUBLIC_URL; make a key with `rushes keys create NAME` to use another"
            )

    def _refuse_strangers(self, asking: Request) -> None:
        """Keep pages of other origins from making jobs: a form needs no preflight, nor here a key.

        Raises:
            Forbidden: a browser sends it from a page that is neither ours nor in RUSHES_CORS_ORIGINS.
        """
        origin = asking.headers.get("origin")
        if origin is None or asking.method in ("GET", "HEAD"):
            return
        public = self._settings.public_url or asking.host_url
        ours = {asking.host, urlsplit(public).netloc}
        allowed = allowed_origins(self._settings)
        if urlsplit(origin).netloc not in ours and not allowed & {origin, "*"}:
            raise Forbidden(
                "pages of this origin may not call; RUSHES_CORS_ORIGINS names those that may"
            )


def caller() -> Caller:
    """Whose request this is."""
    found: Caller = g.caller
    return found


def owner() -> str:
    """Whose jobs this request sees."""
    return caller().owner


def need_admin() -> None:
    """Let only admins on.

    Raises:
        Forbidden: the key's scope is user.
    """
    if caller().rights.scope != "admin":
        raise Forbidden("this needs a key of scope admin")
