"""One thing that the doctor looked at."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

State = Literal["ok", "warning", "problem"]


@dataclass(frozen=True)
class Finding:
    """What was found, and how to mend it where it is not well."""

    area: str
    state: State
    what: str
    fix: str = ""


def ok(area: str, what: str) -> Finding:
    """It is well."""
    return Finding(area, "ok", what)


def warning(area: str, what: str, fix: str) -> Finding:
    """It works, though not as well as it could, or not for everything."""
    return Finding(area, "warning", what, fix)


def problem(area: str, what: str, fix: str) -> Finding:
    """It cannot work."""
    return Finding(area, "problem", what, fix)
