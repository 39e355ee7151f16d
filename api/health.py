"""/health for people and load balancers, /livez and /readyz for whoever starts the process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Sequence
from typing import Any, Literal, TypeVar

import structlog
from flask import Blueprint, Response, jsonify

from api.parts import Parts
from jobs.artifacts import ArtifactStore
from jobs.errors import StorageUnavailable, StoreUnavailable
from jobs.workers import LiveWorker

Status = Literal["starting", "ready", "degraded", "draining"]
StorageState = Literal["unknown", "ok", "unavailable"]

STORAGE_CHECK_S = 15.0
"""How long a look at the artifact store holds."""
STORAGE_WAIT_S = 1.0
"""How long an answer waits for a look that is under way."""

_log = structlog.get_logger("api")
T = TypeVar("T")


class StorageWatch:
    """Whether the artifact store works, looked at aside: a dead S3 must not hang /health."""

    def __init__(self, artifacts: ArtifactStore) -> None:
        self._artifacts = artifacts
        self._lock = threading.Lock()
        self._look: threading.Thread | None = None
        self._looked_at = 0.0
        self._state: StorageState = "unknown"

    def state(self) -> StorageState:
        """What the last look said; begins a new one when that is old."""
        with self._lock:
            look = self._look
            old = time.monotonic() - self._looked_at > STORAGE_CHECK_S
            if look is None or (not look.is_alive() and old):
                look = self._look = threading.Thread(target=self._check, daemon=True)
                look.start()
        look.join(STORAGE_WAIT_S)
        return self._state

    def _check(self) -> None:
        try:
            self._artifacts.check()
        except StorageUnavailable as error:
            _log.error("storage unavailable", reason=str(error))
            self._state = "unavailable"
        else:
            self._state = "ok"
        self._looked_at = time.monotonic()


def blueprint(parts: Parts) -> Blueprint:
    """The three routes."""
    routes = Blueprint("health", __name__)
    storage = StorageWatch(parts.artifacts)

    @routes.get("/livez")
    def livez() -> Response:
        return jsonify(status="alive")

    @routes.get("/readyz")
    def readyz() -> Response:
        parts.store.ping()
        return jsonify(status="ready")

    @routes.get("/health")
    def health() -> tuple[Response, int]:
        kind, state = parts.settings.artifacts, storage.state()
        try:
            gangs, queued = parts.workers.live(), parts.store.queued()
        except StoreUnavailable as error:
            _log.error(error.code, reason=str(error))
            report = {"status": "degraded", "store": "unavailable"}
            return jsonify(report | {"storage": {"kind": kind, "status": state}}), 503
        ready = any(gang.info.state == "ready" for gang in gangs)
        report = describe(gangs) | {
            "open": parts.settings.open,
            "status": status(gangs, state),
            "queue": {"queued": queued, "running": sum(len(gang.attempts) for gang in gangs)},
            "store": "ok",
            "storage": {"kind": kind, "status": state},
        }
        return jsonify(report), 200 if ready else 503

    return routes


def status(gangs: Sequence[LiveWorker], storage: StorageState) -> Status:
    """One word for all of it.

    `degraded`: something is wrong, though jobs may still run; `starting`: nothing is wrong, but no
    gang is ready yet, and one that is restarted counts as starting too.
    """
    states = {gang.info.state for gang in gangs}
    if storage == "unavailable" or "unhealthy" in states:
        return "degraded"
    if "ready" in states:
        return "ready"
    return "draining" if states == {"draining"} else "starting"


def describe(gangs: Sequence[LiveWorker]) -> dict[str, Any]:
    """Totals over the ready gangs, then each gang. What differs between gangs is null in the totals."""
    ready = [gang.info for gang in gangs if gang.info.state == "ready"]
    names = ("cfg", "ring", "ulysses", "tp")
    return {
        "num_gpus": sum(len(gang.devices) for gang in ready),
        "dp_size": len(ready),
        "sp_degree": _same(
            gang.degrees.get("ring", 1) * gang.degrees.get("ulysses", 1) for gang in ready
        ),
        "degrees": {name: _same(gang.degrees.get(name, 1) for gang in ready) for name in names},
        "platform": _same(gang.platform for gang in ready),
        "backend": _same(gang.backend for gang in ready),
        "models": sorted({gang.info.model for gang in gangs}),
        "fallbacks": sorted({text for gang in ready for text in gang.fallbacks}),
        "gangs": [_gang(gang) for gang in gangs],
    }


def _gang(gang: LiveWorker) -> dict[str, Any]:
    """One gang, without what is its host's or its jobs' owners' own."""
    info = gang.info
    return {
        "id": info.id,
        "model": info.model,
        "state": info.state,
        "busy": bool(gang.gang_attempt),
        "jobs": len(gang.attempts),
        "platform": info.platform,
        "backend": info.backend,
        "dtype": info.dtype,
        "degrees": info.degrees,
        "devices": [
            {"device": each.device, "name": each.name, "memory_bytes": each.memory_bytes}
            for each in info.devices
        ],
        "fallbacks": info.fallbacks,
        "restarts": info.restarts,
        "started_at": int(info.started_at),
    }


def _same(values: Iterable[T]) -> T | None:
    """The value that all share, else None."""
    distinct = set(values)
    return distinct.pop() if len(distinct) == 1 else None
