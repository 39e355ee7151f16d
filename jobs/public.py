"""The job object that clients see: one function for GET, list, events and webhooks.

OpenAI's Video object (https://platform.openai.com/docs/api-reference/videos/object) with our fields
beside it. Nothing in it names the owner, the worker, the fence or a path.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from jobs.record import Job, Progress
from jobs.states import State

_GENERATED = 97
_SHARES = {"denoising": (5, 90), "decoding": (90, _GENERATED), "storing": (_GENERATED, 99)}
"""Per cent of a job's progress that a stage spans; the stages before denoising share the first 5."""


def public(
    job: Job, *, queue_position: int | None = None, eta_s: float | None = None
) -> dict[str, Any]:
    """The job as JSON-ready data.

    `queue_position` counts its owner's waiting jobs of that model and priority from 1; `eta_s` estimates
    the seconds until it is done. A job that failed or was cancelled tells the stage where that happened.
    """
    request = job.request
    path = f"/v1/{job.kind}s/{job.id}"
    done = job.state is State.COMPLETED
    progress = None if done else job.progress
    return {
        "id": job.id,
        "object": job.kind,
        "created_at": int(job.created_at),
        "started_at": _whole(job.started_at),
        "completed_at": _whole(job.completed_at),
        "expires_at": _whole(job.expires_at),
        "status": job.state.value,
        "progress": 100 if done else percent(progress),
        "stage": progress.stage if progress else None,
        "step": progress.step if progress else None,
        "steps": progress.steps if progress else None,
        "attempt": job.attempt,
        "resumed_from_step": job.resumed.step if job.resumed else None,
        "resume_refused": (job.resumed.refused or None) if job.resumed else None,
        "priority": job.priority,
        "max_waiting_s": job.max_waiting_s,
        "max_running_s": job.max_running_s,
        "queue_position": queue_position,
        "eta_s": None if eta_s is None else round(eta_s, 1),
        "error": job.error.model_dump() if job.error and job.state is State.FAILED else None,
        "model": job.model,
        "prompt": request.prompt,
        "negative_prompt": request.negative_prompt,
        "seconds": f"{request.seconds:g}",
        "size": request.size,
        "width": request.width,
        "height": request.height,
        "num_frames": request.num_frames,
        "fps": request.fps,
        "num_inference_steps": request.num_inference_steps,
        "guidance_scale": request.guidance_scale,
        "guidance_scale_2": request.guidance_scale_2,
        "fidelity": request.fidelity,
        "seed": request.seed,
        "num_outputs": request.num_outputs,
        "output_format": request.output_format if request.makes_image else None,
        "remixed_from_video_id": job.remixed_from,
        "retry_of": job.retry_of,
        "metadata": job.metadata,
        "request_id": job.request_id or None,
        "usage": _usage(job),
        # The name that the benchmarks of other servers read.
        "peak_memory_mb": round(job.usage.peak_memory_bytes / 2**20, 1) if job.usage else None,
        "urls": {
            "self": path,
            "events": f"{path}/events",
            "content": f"{path}/content" if done else None,
        },
        "artifacts": _artifacts(job, f"{path}/content") if done else [],
    }


def _artifacts(job: Job, path: str) -> list[dict[str, Any]]:
    """Each finished file with its address: `index` counts the files of a kind, output by output."""
    seen: Counter[str] = Counter()
    described = []
    for artifact in job.artifacts:
        index = seen[artifact.kind]
        seen[artifact.kind] += 1
        described.append(
            {
                "kind": artifact.kind,
                "index": index,
                "content_type": artifact.content_type,
                "size_bytes": artifact.size_bytes,
                "width": artifact.width,
                "height": artifact.height,
                "seed": artifact.seed,
                "url": f"{path}?variant={artifact.kind}&index={index}",
            }
        )
    return described


def _usage(job: Job) -> dict[str, Any] | None:
    if job.usage is None:
        return None
    usage = job.usage.model_dump()
    return {name: usage[name] for name in ("device_s", "peak_memory_bytes", "timings_s")}


def _whole(time_s: float | None) -> int | None:
    return None if time_s is None else int(time_s)


def percent(progress: Progress | None) -> int:
    """How much of the job is done, 0 to 100, by the shares that stages usually take."""
    if progress is None:
        return 0
    stage = progress.stage.lower()
    first, last = _SHARES.get(stage, (0, 5))
    done = min(1.0, progress.step / progress.steps) if progress.steps > 0 else 0.0
    share = first + (last - first) * done
    if stage != "storing":
        share = (_GENERATED * progress.item + share) / progress.items
    return int(share)
