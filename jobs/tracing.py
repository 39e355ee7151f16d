"""Traces of a job, from the request to its webhook, where OpenTelemetry's own variables ask for them.

The request's span travels in the job's record as a traceparent (W3C Trace Context); whoever does a part
of the job reports it as a child of that, mostly once it is over. Off, nothing of OpenTelemetry is loaded.
"""
# ruff: noqa: ARG002 - what is off looks at nothing

from __future__ import annotations

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from jobs.errors import SettingsError

ENDPOINTS = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")
"""One of them set turns tracing on."""
Kind = Literal["internal", "server", "producer", "consumer", "client"]
Attributes = Mapping[str, str | int | float]
NONE: Attributes = MappingProxyType({})


class Span:
    """A part of a trace; this one is not recorded."""

    traceparent: str | None = None
    """Names it as a parent to others; None: they have none."""

    def note(self, attributes: Attributes) -> None:
        """Say more about it."""

    def end(self, *, at: float | None = None, error: str = "") -> None:
        """It is over, `at` (unix seconds) or now; `error`: why it failed."""


class Tracing:
    """Tracing that is off."""

    on: bool = False

    def start(
        self,
        name: str,
        *,
        parent: str | None,
        at: float | None = None,
        kind: Kind = "internal",
        attributes: Attributes = NONE,
    ) -> Span:
        """Begin a span, `at` (unix seconds) or now; `parent` is a traceparent, None begins a trace."""
        return Span()

    def close(self) -> None:
        """Send what is left, for a second at most. Closing twice is nothing."""


OFF = Tracing()


def open_tracing(role: str) -> Tracing:
    """What the environment asks for; `role` is this process's, such as api.

    Raises:
        SettingsError: tracing is on, and its packages are not installed.
    """
    asked = next((name for name in ENDPOINTS if os.environ.get(name)), None)
    if asked is None:
        return OFF
    try:
        from jobs.otel import OtelTracing
    except ImportError as error:
        raise SettingsError(
            f"{asked} asks for traces, and {error.name} is missing: pip install 'rushes[otel]', or "
            "unset it"
        ) from None
    return OtelTracing(role)
