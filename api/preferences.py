"""The Prefer header (RFC 7240): `respond-async` and `wait`."""

from __future__ import annotations

from dataclasses import dataclass

from werkzeug.http import parse_dict_header


@dataclass(frozen=True)
class Preferences:
    """What a client would like; what cannot be read is ignored, as the RFC asks."""

    respond_async: bool = False
    wait_s: int | None = None

    @classmethod
    def read(cls, header: str) -> Preferences:
        """Read the header's value, empty when there is none; of a doubled one the first counts."""
        found: dict[str, str | None] = {}
        for part in header.split(","):
            for name, value in parse_dict_header(part.partition(";")[0]).items():
                found.setdefault(name.strip().lower(), value)
        wait = (found.get("wait") or "").strip()
        return cls(
            respond_async="respond-async" in found,
            wait_s=int(wait) if wait.isascii() and wait.isdigit() and len(wait) < 10 else None,
        )
