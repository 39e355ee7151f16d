"""What a worker does to a job, as far as the API can see it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from jobs.artifacts import ArtifactStore
from jobs.record import Artifact, Job, Usage
from jobs.relay.board import Board
from jobs.store import JobStore
from jobs.workers import Device, WorkerInfo, Workers
from tests.fixtures.asked import card

CARD = card(max_num_frames=81, max_prompt_chars=200)


def announce(workers: Workers, **changes: Any) -> WorkerInfo:
    """Announce a worker with a gang of two; `changes` make it another one."""
    given: dict[str, Any] = {
        "id": "worker-1",
        "host": "secret-host",
        "pid": 4242,
        "model": "tiny",
        "names": ("tiny", "/models/tiny"),
        "state": "ready",
        "card": CARD,
        "platform": "cpu",
        "backend": "gloo",
        "dtype": "float32",
        "degrees": {"cfg": 1, "ring": 1, "ulysses": 2, "tp": 1},
        "devices": tuple(
            Device(rank=rank, pid=1, device=f"cpu:{rank}", name="cpu", memory_bytes=2**30)
            for rank in range(2)
        ),
        "started_at": time.time(),
    }
    info = WorkerInfo(**(given | changes))
    workers.announce(info)
    return info


def claim(store: JobStore, job_id: str) -> Job:
    """Release the job as the relay does, and claim it as the worker does."""
    board = Board(store, "test")
    assert board.lead(60)
    release = next(each for each in board.release("tiny", 1000) if each.job_id == job_id)
    job = store.claim(job_id, release.number, "worker-1")
    assert job is not None
    return job


def finish(
    store: JobStore, artifacts: ArtifactStore, job_id: str, file: Path, *, kind: str = "video"
) -> Artifact:
    """Run the job to its end with `file` as its output."""
    artifact = conclude(store, artifacts, claim(store, job_id), file, kind=kind)
    assert artifact is not None
    return artifact


def conclude(
    store: JobStore, artifacts: ArtifactStore, job: Job, file: Path, *, kind: str = "video"
) -> Artifact | None:
    """Store `file` as the claimed job's output and complete it; None: it was cancelled meanwhile."""
    job_id = job.id
    extension, content_type = (".mp4", "video/mp4") if kind == "video" else (".png", "image/png")
    key = f"jobs/{job_id}/{job.fence}/{kind}{extension}"
    stored = artifacts.put(key, file, content_type)
    artifact = Artifact(
        kind=kind,
        key=key,
        content_type=content_type,
        size_bytes=stored.size_bytes,
        sha256=stored.sha256,
        width=128,
        height=128,
        num_frames=17,
        fps=8,
        seed=job.request.seed,
    )
    usage = Usage(
        device_s=2.5,
        peak_memory_bytes=2**20,
        timings_s={"denoising": 1.0},
        started_at=time.time(),
        ended_at=time.time(),
    )
    completed = store.complete(job_id, job.fence, [artifact], usage)
    store.gang_free("worker-1", job_id, job.fence)
    return artifact if completed else None
