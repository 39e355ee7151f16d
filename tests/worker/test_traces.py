"""One job's trace, from the request over relay and worker to the webhook."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from celery.exceptions import Ignore
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from api.app import create_app
from jobs.artifacts import open_artifacts
from jobs.otel import OtelTracing
from jobs.relay.relay import Relay
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.worker import announce
from tests.fixtures.waiting import wait_for
from tests.fixtures.webhooks import Receiver
from tests.jobs import making
from worker.task import JobFailed
from worker.timeline import Timeline
from worker.traces import Claimed, traced

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
CLIENT = f"00-{TRACE}-00f067aa0ba902b7-01"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class Traces:
    """What one process after the other reports."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self.tracing = OtelTracing("test", self._exporter)

    def spans(self) -> tuple[ReadableSpan, ...]:
        self.tracing.close()
        return self._exporter.get_finished_spans()


def tree(spans: tuple[ReadableSpan, ...]) -> dict[str, str]:
    """The parent's name of each span by its name; empty: none of these."""
    names = {span.context.span_id: span.name for span in spans}
    return {span.name: names.get(span.parent.span_id, "") if span.parent else "" for span in spans}


def test_a_jobs_trace_goes_from_the_request_to_the_webhook(
    redis_url: str, tmp_path: Path, receiver: Receiver
) -> None:
    settings = Settings.model_validate(
        {"redis_url": redis_url, "home": tmp_path, "webhook_secret": SECRET}
        | {"webhook_private": True}
    )
    traces, store, artifacts = Traces(), JobStore.connect(settings), open_artifacts(settings)
    workers, stop = Workers(store), threading.Event()
    announce(workers)

    def perform(job_id: str, _: str, release: int) -> None:
        called_at, timeline = time.time(), Timeline()
        job = store.claim(job_id, release, "worker-1")
        assert job is not None
        with traced(traces.tracing, Claimed(job, called_at, time.time()), timeline):
            for stage, step in (("denoising", 0), ("denoising", 1), ("storing", 0), ("storing", 1)):
                timeline.note(stage, 0, step)
            assert store.complete(job.id, job.fence, [], making.usage())

    app = create_app(settings, store, workers, artifacts, traces.tracing)
    answer = app.test_client().post(
        "/v1/videos",
        json={"prompt": "a fox", "webhook_url": receiver.url()},
        headers={"traceparent": CLIENT},
    )
    job_id = answer.get_json()["id"]
    relay = Relay(settings, store, workers, perform, artifacts, tick_s=0.1, tracing=traces.tracing)
    thread = threading.Thread(target=relay.run, args=(stop,))
    thread.start()
    try:
        wait_for(lambda: receiver.received, "the webhook comes")
    finally:
        stop.set()
        thread.join()

    spans = traces.spans()
    request = "POST /v1/videos"
    assert tree(spans) == {
        request: "",
        "queued": request,
        "release": request,
        "attempt": request,
        "claim": "attempt",
        "denoising": "attempt",
        "storing": "attempt",
        "webhook": request,
    }
    assert {f"{span.context.trace_id:032x}" for span in spans} == {TRACE}
    for span in spans:
        assert span.attributes is not None
        assert span.attributes["job.id"] == job_id
        if span.name in ("attempt", "claim", "denoising", "storing", "webhook"):
            assert span.attributes["job.attempt"] == store.get(job_id).fence
        assert span.start_time is not None
        assert span.end_time is not None
        assert span.start_time <= span.end_time


@pytest.mark.parametrize(
    ("end", "outcome", "is_error"),
    [(Ignore("handed back"), "handed back", False), (JobFailed("it broke"), "failed", True)],
)
def test_an_attempt_tells_how_it_ended(end: Exception, outcome: str, is_error: bool) -> None:
    traces, job = Traces(), making.job(attempt=2, fence="2-abc", traceparent=CLIENT)
    with (
        pytest.raises(type(end)),
        traced(traces.tracing, Claimed(job, time.time(), time.time()), Timeline()),
    ):
        raise end

    spans = {span.name: span for span in traces.spans()}
    assert spans.keys() == {"attempt", "claim"}, "a wait after a try is no wait in the queue"
    attempt = spans["attempt"]
    assert attempt.attributes is not None
    assert attempt.attributes["outcome"] == outcome
    assert (not attempt.status.is_ok) == is_error
