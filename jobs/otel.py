"""Tracing by OpenTelemetry's SDK, sent by OTLP over HTTP. Loaded only where tracing is on.

The SDK reads its own `OTEL_*` variables: endpoint, headers, sampler, batches, resource. A collector that
is away costs spans and a line in the log, never a job.
"""

from __future__ import annotations

import atexit
import os
import threading

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import Span as SdkSpan
from opentelemetry.trace import SpanKind, Status, StatusCode, set_span_in_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from jobs.tracing import NONE, Attributes, Kind, Span, Tracing

CLOSE_S = 1.0
_FIELD = "traceparent"
_KINDS = {
    "internal": SpanKind.INTERNAL,
    "server": SpanKind.SERVER,
    "producer": SpanKind.PRODUCER,
    "consumer": SpanKind.CONSUMER,
    "client": SpanKind.CLIENT,
}


class OtelTracing(Tracing):
    """Tracing that is on.

    Args:
        role: this process's, an attribute of its resource.
        exporter: where spans go; omitted: where the `OTEL_*` variables say.
    """

    on = True

    def __init__(self, role: str, exporter: SpanExporter | None = None) -> None:
        resource = {"rushes.role": role}
        if "OTEL_SERVICE_NAME" not in os.environ:
            resource[SERVICE_NAME] = "rushes"
        # Its own way out at exit waits for a collector that is away, longer than a worker may take.
        self._provider = TracerProvider(resource=Resource.create(resource), shutdown_on_exit=False)
        self._provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter()))
        self._tracer = self._provider.get_tracer("rushes")
        self._propagator = TraceContextTextMapPropagator()
        atexit.register(self.close)

    def start(
        self,
        name: str,
        *,
        parent: str | None,
        at: float | None = None,
        kind: Kind = "internal",
        attributes: Attributes = NONE,
    ) -> Span:
        """A recorded span; a `parent` that is no traceparent counts as none."""
        span = self._tracer.start_span(
            name,
            self._propagator.extract({_FIELD: parent} if parent else {}),
            _KINDS[kind],
            dict(attributes),
            start_time=_nanoseconds(at),
        )
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier, set_span_in_context(span))
        return _Recorded(span, carrier.get(_FIELD))

    def close(self) -> None:
        """Send what is left, for `CLOSE_S` at most."""
        atexit.unregister(self.close)
        sending = threading.Thread(target=self._provider.shutdown, daemon=True)
        sending.start()
        sending.join(CLOSE_S)


class _Recorded(Span):
    def __init__(self, span: SdkSpan, traceparent: str | None) -> None:
        self._span = span
        self.traceparent = traceparent

    def note(self, attributes: Attributes) -> None:
        self._span.set_attributes(dict(attributes))

    def end(self, *, at: float | None = None, error: str = "") -> None:
        if error:
            self._span.set_status(Status(StatusCode.ERROR, error))
        self._span.end(_nanoseconds(at))


def _nanoseconds(at: float | None) -> int | None:
    return None if at is None else int(at * 1e9)
