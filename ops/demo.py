"""`rushes demo`: the whole service on this machine, one clip through it over HTTP, all gone after.

1. Start `rushes serve` on a home and free ports of its own.
2. POST the prompt, follow the job, download the clip.
3. Stop everything.
"""

from __future__ import annotations

import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from ops.local import LocalError, LocalService
from ops.progress import Shown, shown_progress

START_S = 180.0
JOB_S = 600.0
POLL_S = 0.1


def run_demo(
    asked: Mapping[str, Any], out: Path, *, home: Path | None, model_path: str | None
) -> int:
    """Make one clip; the exit code. A home that is given stays, with its job; else nothing does.

    Args:
        asked: the body of the POST.
        out: where the clip goes.
        home: of the service; None: a temporary one.
        model_path: None: the demo model.
    """
    arguments = [] if model_path is None else ["--model-path", model_path]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    began = time.monotonic()
    try:
        with _home(home) as place, LocalService(place, arguments) as service:
            job = _make(service, asked, out)
            made_s = time.monotonic() - began
    except LocalError as error:
        print(f"rushes: the demo failed: {error}", file=sys.stderr)
        return 1
    Console(highlight=False).print(
        f"{out}: {job['num_frames']} frames, {job['size']}, {out.stat().st_size:,} bytes, "
        f"{job['seconds']} s of video at {job['fps']} fps, seed {job['seed']}; "
        f"made in {made_s:.1f} s, service start included",
        soft_wrap=True,
        markup=False,
    )
    return 0


def _make(service: LocalService, asked: Mapping[str, Any], out: Path) -> dict[str, Any]:
    with shown_progress() as shown:
        shown("starting and loading the model")
        service.wait_ready(START_S)
        with httpx.Client(base_url=service.url, timeout=30.0) as client:
            job = _follow(client, _create(client, asked), shown)
            _download(client, job, out)
    return job


@contextmanager
def _home(given: Path | None) -> Iterator[Path]:
    if given is not None:
        yield given
    else:
        with tempfile.TemporaryDirectory(prefix="rushes-demo-") as made:
            yield Path(made)


def _create(client: httpx.Client, asked: Mapping[str, Any]) -> dict[str, Any]:
    answer = client.post("/v1/videos", json=dict(asked))
    if answer.is_error:
        raise LocalError(f"POST /v1/videos gave {answer.status_code}: {answer.text}")
    job: dict[str, Any] = answer.json()
    return job


def _follow(client: httpx.Client, job: dict[str, Any], shown: Shown) -> dict[str, Any]:
    """Poll until the job is terminal; its object once completed."""
    deadline = time.monotonic() + JOB_S
    while job["status"] not in {"completed", "failed", "cancelled"}:
        if time.monotonic() > deadline:
            raise LocalError(f"{job['id']} is not done after {JOB_S:g} s: {job['status']}")
        shown(_words(job), percent=job["progress"])
        time.sleep(POLL_S)
        job = client.get(f"/v1/videos/{job['id']}").raise_for_status().json()
    if job["status"] != "completed":
        raise LocalError(f"{job['id']} {job['status']}: {job['error']}")
    shown("done", percent=100)
    return job


def _words(job: dict[str, Any]) -> str:
    if job["stage"] is None:
        return str(job["status"]).replace("_", " ")
    stage = str(job["stage"]).lower().replace("_", " ")
    if (job["steps"] or 0) > 1:
        return f"{stage}: step {job['step']} of {job['steps']}"
    return stage


def _download(client: httpx.Client, job: dict[str, Any], out: Path) -> None:
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_name(f".{out.name}.part")
    try:
        with (
            client.stream("GET", f"/v1/videos/{job['id']}/content") as answer,
            part.open("wb") as file,
        ):
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                file.write(piece)
        part.replace(out)
    finally:
        part.unlink(missing_ok=True)
