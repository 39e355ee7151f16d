import pytest

from jobs.record import Artifact, Job, JobError, Progress, Usage, decode, encode, new_id
from jobs.states import EDGES, State
from tests.fixtures.asked import request

REQUEST = request(model="demo", prompt="un cercle bleuté \N{SNOWMAN}")
QUEUED = Job(id=new_id(), owner="anonymous", request=REQUEST, created_at=1764000000.25)
FINISHED = QUEUED.model_copy(
    update={
        "state": State.COMPLETED,
        "attempt": 2,
        "beat": 9,
        "started_at": 1764000001.0,
        "completed_at": 1764000009.5,
        "progress": Progress(stage="storing", step=1, steps=1),
        "artifacts": (
            Artifact(
                kind="video",
                key="jobs/x/2-ab/video.mp4",
                content_type="video/mp4",
                size_bytes=10,
                sha256="00",
                width=128,
                height=128,
                num_frames=17,
                fps=8,
                seed=7,
            ),
        ),
        "error": JobError(code="error", message='an earlier try: \n"quoted"'),
        "usage": Usage(
            device_s=4.5,
            peak_memory_bytes=1,
            timings_s={"denoising": 4.0},
            started_at=1.0,
            ended_at=2.0,
        ),
        "webhook_url": "https://example.com/hook",
    }
)


@pytest.mark.parametrize("job", [QUEUED, FINISHED])
def test_decode_undoes_encode(job: Job) -> None:
    fields = encode(job)
    assert all(isinstance(value, str) for value in fields.values())
    assert decode(fields) == job


def test_a_field_of_a_later_version_is_left_out() -> None:
    assert decode({**encode(QUEUED), "colour": "red"}) == QUEUED


def test_ids_sort_by_time_and_are_safe_in_paths() -> None:
    first, second = new_id(), new_id("image")
    assert first.startswith("video_")
    assert second.startswith("image_")
    assert first.replace("_", "").isalnum()


def test_every_state_can_be_reached_and_terminal_ones_cannot_be_left() -> None:
    assert {edge.target for edge in EDGES} == set(State)
    assert all(not edge.source.terminal for edge in EDGES)
