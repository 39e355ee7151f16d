"""Traces: off and unloaded unless asked for, sent where OpenTelemetry's variables say."""

from __future__ import annotations

import subprocess
import sys

import pytest

from jobs.errors import SettingsError
from jobs.tracing import OFF, open_tracing
from tests.fixtures.otlp import attributes, collecting

CLIENT = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

UNLOADED = """
import sys
import api.server, worker.main, jobs.relay.relay
from jobs.tracing import open_tracing
assert not open_tracing("api").on
# redis-py loads the part for metrics by itself where it is installed.
heavy = ("jobs.otel", "opentelemetry.exporter", "opentelemetry.sdk.trace", "google.protobuf")
assert not sys.modules.keys() & set(heavy)
"""


def test_off_it_is_nothing_and_loads_nothing() -> None:
    assert open_tracing("api") is OFF
    span = OFF.start("x", parent=CLIENT)
    span.note({"a": 1})
    span.end()
    assert span.traceparent is None
    subprocess.run([sys.executable, "-c", UNLOADED], check=True)


def test_asked_for_without_its_packages_it_stops_the_start_in_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.delitem(sys.modules, "jobs.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(SettingsError, match=r"pip install 'rushes\[otel\]'"):
        open_tracing("api")


def test_spans_reach_the_collector_with_parent_times_and_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with collecting() as collector:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        tracing = open_tracing("relay")
        request = tracing.start("request", parent=CLIENT, attributes={"job.id": "video_1"})
        child = tracing.start("stage", parent=request.traceparent, at=100.0)
        child.end(at=102.5, error="it broke")
        request.note({"status": 200})
        request.end()
        tracing.start("alone", parent="no traceparent").end()
        tracing.close()
        tracing.close()

    request_span, stage = collector.named("request"), collector.named("stage")
    assert request_span.trace_id.hex() == stage.trace_id.hex() == CLIENT.split("-")[1]
    assert request_span.parent_span_id.hex() == CLIENT.split("-")[2]
    assert collector.parent(stage) == "request"
    assert (stage.start_time_unix_nano, stage.end_time_unix_nano) == (100 * 10**9, 1025 * 10**8)
    assert stage.status.message == "it broke"
    assert attributes(request_span) == {"job.id": "video_1", "status": 200}
    assert not collector.named("alone").parent_span_id
    assert collector.roles == {"relay"}


def test_a_collector_that_is_away_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    tracing = open_tracing("api")
    tracing.start("request", parent=None).end()
    tracing.close()
