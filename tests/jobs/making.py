"""Jobs, workers and settings for this room's tests."""

from __future__ import annotations

import time
from typing import Any

from jobs.record import Artifact, Job, Usage, new_id
from jobs.relay.board import Board
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Device, WorkerInfo, Workers
from tests.fixtures.asked import CARD, request

__all__ = [
    "CARD",
    "artifact",
    "claim",
    "claimed",
    "job",
    "queued_count",
    "released",
    "request",
    "settings",
    "sweeps",
    "usage",
    "worker",
]


def settings(redis_url: str, **more: Any) -> Settings:
    return Settings(redis_url=redis_url, redis_prefix="t:", **more)


def job(*, model: str = "tiny", owner: str = "ada", **changes: Any) -> Job:
    fields: dict[str, Any] = {
        "id": new_id(),
        "owner": owner,
        "request": request(model=model),
        "created_at": time.time(),
    }
    return Job(**{**fields, **changes})


def worker(worker_id: str = "w1", **changes: Any) -> WorkerInfo:
    fields: dict[str, Any] = {
        "id": worker_id,
        "host": "here",
        "pid": 1,
        "model": "tiny",
        "names": ("tiny", "/models/tiny"),
        "state": "ready",
        "card": CARD,
        "devices": (Device(rank=0, pid=2, device="cpu", name="cpu", memory_bytes=1),),
        "started_at": 1.0,
    }
    return WorkerInfo(**{**fields, **changes})


def claim(store: JobStore, job_id: str, release: int, worker_id: str = "w1") -> Job | None:
    """As a worker does whose gang is ready: announced no longer ago than its last beat."""
    Workers(store).announce(worker(worker_id))
    return store.claim(job_id, release, worker_id)


def released(store: JobStore, board: Board, **changes: Any) -> tuple[str, int]:
    submitted = store.submit(job(**changes))
    (release,) = [r for r in board.release("tiny", 99) if r.job_id == submitted.id]
    return submitted.id, release.number


def claimed(store: JobStore, board: Board, worker_id: str = "w1", **changes: Any) -> Job:
    job_id, number = released(store, board, **changes)
    running = claim(store, job_id, number, worker_id)
    assert running is not None
    return running


def queued_count(store: JobStore) -> int:
    return int(store.redis.get("t:queued") or 0)


def sweeps(store: JobStore) -> set[str]:
    return set(store.redis.zrange("t:sweep", 0, -1))  # type: ignore[arg-type]


def artifact(job_id: str, fence: str) -> Artifact:
    return Artifact(
        kind="video",
        key=f"jobs/{job_id}/{fence}/video.mp4",
        content_type="video/mp4",
        size_bytes=10,
        sha256="0" * 64,
        width=128,
        height=128,
        num_frames=17,
        fps=8,
        seed=7,
    )


def usage(device_s: float = 2.0) -> Usage:
    return Usage(
        device_s=device_s,
        peak_memory_bytes=2**30,
        timings_s={"denoising": 1.5, "decoding": 0.5},
        started_at=100.0,
        ended_at=102.0,
    )
