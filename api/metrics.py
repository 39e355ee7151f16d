"""/metrics for Prometheus: read from Redis at each scrape, so that every process tells the same."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator

from flask import Blueprint, Response
from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from api.door import need_admin
from api.parts import Parts
from jobs.meter import BOUNDS_S, Meter, Reading
from jobs.workers import LiveWorker

_GANG_STATES = ("starting", "ready", "unhealthy", "draining")


def blueprint(parts: Parts) -> Blueprint:
    """The route /metrics."""
    routes = Blueprint("metrics", __name__)
    meter = Meter(parts.store)

    @routes.get("/metrics")
    def metrics() -> Response:
        need_admin()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(_Service(meter.read(), parts.workers.live()))
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

    return routes


class _Service(Collector):
    """What was read, in Prometheus' words."""

    def __init__(self, reading: Reading, workers: tuple[LiveWorker, ...]) -> None:
        self._reading = reading
        self._workers = workers

    def collect(self) -> Iterator[Metric]:
        yield from self._queue()
        yield from self._gangs()
        for name, what, labels, text in (
            ("accepted", "accepted", ("model",), "Jobs accepted"),
            ("refused", "refused", ("code",), "Creates refused, by error code"),
            ("jobs", "jobs", ("outcome", "model"), "Jobs ended"),
            ("claims", "claims", ("model",), "Attempts begun"),
            ("lease_losses", "lost", ("model",), "Attempts lost with their worker"),
            ("preemptions", "preemptions", ("model",), "Jobs that made room for a higher priority"),
            ("restarts", "restarts", ("model",), "Gangs started again"),
            ("webhooks", "webhooks", ("outcome",), "Webhook attempts"),
        ):
            family = CounterMetricFamily(f"rushes_{name}", text, labels=labels)
            for values, count in self._reading.of(what, len(labels)):
                family.add_metric(values, count)
            yield family
        device = CounterMetricFamily(
            "rushes_device_seconds", "Device-seconds of completed jobs", labels=("model",)
        )
        for values, ms in self._reading.of("device_ms", 1):
            device.add_metric(values, ms / 1000)
        yield device
        yield self._seconds("queue", ("model",), "From accepted to the first claim")
        yield self._seconds("load", ("model",), "From a gang's start until it was ready")
        yield self._seconds("stage", ("stage", "model"), "Stages of completed jobs")
        yield self._seconds("step", ("model",), "Denoising steps: each completed job's mean")
        yield self._seconds("store", ("model",), "Storing the files of completed jobs")

    def _seconds(self, what: str, labels: tuple[str, ...], text: str) -> Metric:
        family = HistogramMetricFamily(f"rushes_{what}_seconds", text, labels=labels)
        bounds = [*(f"{bound:g}" for bound in BOUNDS_S), "+Inf"]
        for values, counts, sum_s in self._reading.histograms(what, len(labels)):
            family.add_metric(values, list(zip(bounds, counts, strict=True)), sum_s)
        return family

    def _queue(self) -> Iterator[Metric]:
        labels = ("model", "priority")
        depth = GaugeMetricFamily("rushes_queue_depth", "Jobs that wait", labels=labels)
        age = GaugeMetricFamily(
            "rushes_queue_oldest_seconds", "Age of the oldest job that waits", labels=labels
        )
        for waiting in self._reading.waiting:
            values = (waiting.model, str(waiting.priority))
            depth.add_metric(values, waiting.jobs)
            age.add_metric(values, max(0.0, time.time() - waiting.oldest_at))
        yield depth
        yield age

    def _gangs(self) -> Iterator[Metric]:
        states: Counter[tuple[str, str]] = Counter(
            (worker.info.model, worker.info.state) for worker in self._workers
        )
        gangs = GaugeMetricFamily("rushes_gangs", "Live gangs", labels=("model", "state"))
        for model in sorted({worker.info.model for worker in self._workers}):
            for state in _GANG_STATES:
                gangs.add_metric((model, state), states[model, state])
        yield gangs
        busy = GaugeMetricFamily("rushes_gang_busy", "Whether it computes", labels=("worker",))
        restarts = GaugeMetricFamily(
            "rushes_gang_restarts", "How often it was started again", labels=("worker",)
        )
        for worker in self._workers:
            busy.add_metric((worker.info.id,), bool(worker.gang_attempt))
            restarts.add_metric((worker.info.id,), worker.info.restarts)
        yield busy
        yield restarts
