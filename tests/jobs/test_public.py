from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from jobs.public import public
from jobs.record import JobError, Progress
from jobs.states import State
from pipeline.request import Request
from tests.jobs import making

GOLDEN = Path(__file__).parent / "golden" / "job.json"
ID = "video_01M87Y1ENENQV38X73GC0GXK56"


def examples() -> dict[str, object]:
    times: dict[str, Any] = {"created_at": 1700000000.25, "started_at": 1700000001.5}
    ends: dict[str, Any] = {**times, "completed_at": 1700000009.75, "expires_at": 1700604809.75}
    running: dict[str, Any] = {
        **times,
        "state": State.IN_PROGRESS,
        "attempt": 2,
        "fence": "2-a",
        "worker": "w1",
    }
    jobs = {
        "queued": making.job(id=ID, created_at=1700000000.25, webhook_url="https://example.com/"),
        "in_progress": making.job(
            id=ID, **running, progress=Progress(stage="denoising", step=5, steps=20)
        ),
        "completed": making.job(
            id=ID,
            **{**running, **ends, "state": State.COMPLETED},
            artifacts=(making.artifact(ID, "2-a"),),
            progress=Progress(stage="storing", step=0, steps=1),
            usage=making.usage(),
        ),
        "failed": making.job(
            id=ID,
            **ends,
            state=State.FAILED,
            attempt=5,
            error=JobError(code="gang_died", message="rank 1 was killed"),
        ),
    }
    return {name: public(job) for name, job in jobs.items()}


def test_the_job_object_is_as_pinned() -> None:
    """After a wanted change: write `examples()` to the golden file and read the difference."""
    assert examples() == json.loads(GOLDEN.read_text())


def test_every_value_that_decides_the_outputs_bytes_is_given_back() -> None:
    request = {"fidelity": "bounded", "guidance_scale": 4.0, "guidance_scale_2": 3.0}
    job = making.job()
    told = public(job.model_copy(update={"request": job.request.model_copy(update=request)}))

    assert {name: told[name] for name in request} == request
    # What is made of what shows in the size and kind; input images have names of our own.
    assert Request.model_fields.keys() - told.keys() == {"workload", "images"}


def test_an_images_format_is_told_and_a_video_has_none() -> None:
    job = making.job()
    image = {"num_frames": 1, "output_format": "webp"}
    assert public(job)["output_format"] is None
    picture = job.model_copy(update={"request": job.request.model_copy(update=image)})
    assert public(picture)["output_format"] == "webp"


def test_nothing_private_is_in_it() -> None:
    text = json.dumps(examples()["completed"])
    for private in ('"ada"', "w1", "2-a", "jobs/", "example.com"):
        assert private not in text


def test_every_field_of_openai_s_video_is_there() -> None:
    fields = (
        "id object created_at completed_at expires_at status progress model prompt seconds size"
        " remixed_from_video_id error"
    )
    assert set(fields.split()) <= public(making.job()).keys()


@pytest.mark.parametrize(
    ("stage", "step", "steps", "percent"),
    [
        ("TextEncoding", 0, 1, 0),
        ("denoising", 0, 20, 5),
        ("Denoising", 10, 20, 47),
        ("denoising", 20, 20, 90),
        ("decoding", 1, 2, 93),
        ("storing", 1, 1, 99),
        ("denoising", 30, 20, 90),
        ("decoding", 0, 0, 90),
    ],
)
def test_progress_never_reaches_100_before_the_end(
    stage: str, step: int, steps: int, percent: int
) -> None:
    progress = Progress(stage=stage, step=step, steps=steps)
    assert public(making.job(state=State.IN_PROGRESS, progress=progress))["progress"] == percent


def test_progress_only_rises_over_several_outputs() -> None:
    stages = [("text_encoding", 1), ("denoising", 10), ("denoising", 20), ("decoding", 20)]
    way = [
        Progress(stage=stage, step=step, steps=20, item=item, items=3)
        for item in range(3)
        for stage, step in stages
    ]
    way.append(Progress(stage="storing", step=0, steps=3))
    shown = [
        public(making.job(state=State.IN_PROGRESS, progress=progress))["progress"]
        for progress in way
    ]
    assert shown == sorted(shown)
    assert shown[3:5] == [32, 32]


def test_an_error_of_an_earlier_try_is_not_shown() -> None:
    error = JobError(code="gang_died", message="rank 1 was killed")
    assert public(making.job(error=error))["error"] is None
