"""Create, look, list, cancel and delete, end to end through the WSGI application."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from api.app import create_app
from jobs.artifacts import ArtifactStore
from jobs.record import JobError, Progress
from jobs.settings import Settings
from jobs.states import State
from jobs.store import Hold, JobStore
from jobs.workers import Workers
from tests.api.worker import announce, claim

PROMPT = "a red circle moving right on a black background"


def create(client: FlaskClient, **body: Any) -> dict[str, Any]:
    answer = client.post("/v1/videos", json={"prompt": PROMPT} | body)
    assert answer.status_code == 200, answer.json
    job: dict[str, Any] = answer.get_json()
    return job


def refused(client: FlaskClient, body: dict[str, Any], status: int = 400) -> dict[str, Any]:
    answer = client.post("/v1/videos", json=body)
    assert answer.status_code == status, answer.json
    assert answer.get_json().keys() == {"error"}
    error: dict[str, Any] = answer.get_json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    return error


# Create -------------------------------------------------------------------------------------------


def test_create_answers_the_queued_job_in_openais_shape(
    served: FlaskClient, store: JobStore
) -> None:
    job = create(served, size="256x128", seconds=2, seed=7)

    assert job["id"].startswith("video_")
    assert (job["object"], job["status"], job["progress"]) == ("video", "queued", 0)
    assert (job["model"], job["prompt"], job["size"]) == ("tiny", PROMPT, "256x128")
    assert job["num_frames"] == 4 * (2 * 8 // 4) + 1 == 17
    assert job["seconds"] == "2.125"
    assert isinstance(job["created_at"], int)
    assert job["completed_at"] is job["error"] is job["remixed_from_video_id"] is None
    record = store.get(job["id"])
    assert record.state is State.QUEUED
    assert record.request.seed == 7


def test_what_is_left_out_comes_from_the_card(served: FlaskClient, store: JobStore) -> None:
    request = store.get(create(served)["id"]).request
    assert (request.width, request.height, request.num_frames, request.fps) == (128, 128, 17, 8)
    assert (request.num_inference_steps, request.guidance_scale) == (20, 3.0)
    assert request.negative_prompt == ""
    assert request.seed >= 0


def test_multipart_gives_the_same_job_as_json(served: FlaskClient, store: JobStore) -> None:
    fields = {
        "prompt": "ein grünes Quadrat",
        "model": "tiny",
        "width": 64,
        "height": 32,
        "num_frames": 5,
        "fps": 4,
        "num_inference_steps": 3,
        "guidance_scale": 1.5,
        "negative_prompt": "blurry",
        "seed": 1,
    }
    form = served.post(
        "/v1/videos",
        data={name: str(value) for name, value in fields.items()},
        content_type="multipart/form-data",
    )
    assert form.status_code == 200, form.json
    assert (
        store.get(form.get_json()["id"]).request
        == store.get(create(served, **fields)["id"]).request
    )


def test_the_guides_route_and_body_answer_the_same(served: FlaskClient, store: JobStore) -> None:
    body = {
        "prompt": PROMPT,
        "num_frames": 9,
        "height": 128,
        "width": 256,
        "num_inference_steps": 5,
        "guidance_scale": 5.0,
        "seed": 42,
    }
    answer = served.post("/v1/videos/generations", json=body)
    assert answer.status_code == 200
    assert answer.get_json().keys() == create(served, **body).keys()
    request = store.get(answer.get_json()["id"]).request
    assert body.items() <= request.model_dump().items()


def test_one_frame_is_an_image(served: FlaskClient, store: JobStore) -> None:
    assert store.get(create(served, num_frames=1)["id"]).request.workload == "t2i"


def test_the_models_path_names_it_too(served: FlaskClient) -> None:
    assert create(served, model="/models/tiny")["model"] == "tiny"


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        ({}, "prompt", ("required",)),
        ({"prompt": ""}, "prompt", ("must not be empty",)),
        ({"prompt": " \n"}, "prompt", ("must not be empty",)),
        ({"prompt": "x" * 201}, "prompt", ("201", "200")),
        ({"prompt": 7}, "prompt", ("string", "7")),
        ({"prompt": None}, "prompt", ("string",)),
        ({"prompt": "x", "negative_prompt": "x" * 201}, "negative_prompt", ("201", "200")),
        ({"prompt": "x", "steps": 3}, "steps", ("unknown", "num_inference_steps", "3")),
        ({"prompt": "x", "width": "wide"}, "width", ("integer", "'wide'")),
        ({"prompt": "x", "width": 1.5}, "width", ("integer", "1.5")),
        ({"prompt": "x", "width": True}, "width", ("number", "True")),
        ({"prompt": "x", "width": [128]}, "width", ("integer", "[128]")),
        ({"prompt": "x", "width": 120}, "width", ("multiple of 16", "120")),
        ({"prompt": "x", "height": 272}, "height", ("256", "272")),
        ({"prompt": "x", "height": 0}, "height", ("16", "0")),
        ({"prompt": "x", "height": -16}, "height", ("16", "-16")),
        ({"prompt": "x", "size": "128"}, "size", ("WIDTHxHEIGHT", "'128'")),
        ({"prompt": "x", "size": "130x128"}, "size", ("multiple of 16 in width", "130x128")),
        ({"prompt": "x", "size": "128x4096"}, "size", ("256 in height", "128x4096")),
        ({"prompt": "x", "size": "128x128", "width": 128}, "size", ("beside",)),
        ({"prompt": "x", "num_frames": 16}, "num_frames", ("4k+1", "16", "13", "17")),
        ({"prompt": "x", "num_frames": 85}, "num_frames", ("81", "85")),
        ({"prompt": "x", "num_frames": 0}, "num_frames", ("1", "0")),
        ({"prompt": "x", "seconds": 0}, "seconds", ("greater than 0",)),
        ({"prompt": "x", "seconds": "NaN"}, "seconds", ("finite",)),
        ({"prompt": "x", "seconds": 1e9}, "seconds", ("10.125", "1000000000")),
        ({"prompt": "x", "seconds": 1, "num_frames": 5}, "seconds", ("beside",)),
        ({"prompt": "x", "fps": 61}, "fps", ("60", "61")),
        ({"prompt": "x", "num_inference_steps": 101}, "num_inference_steps", ("100", "101")),
        ({"prompt": "x", "guidance_scale": -1}, "guidance_scale", ("0", "20", "-1")),
        ({"prompt": "x", "guidance_scale": "inf"}, "guidance_scale", ("finite",)),
        ({"prompt": "x", "seed": -1}, "seed", ("0", "-1")),
        ({"prompt": "x", "seed": 2**53}, "seed", ("9007199254740991", "9007199254740992")),
    ],
)
def test_a_bad_value_is_400_naming_field_value_and_limit(
    served: FlaskClient, store: JobStore, body: dict[str, Any], param: str, words: tuple[str, ...]
) -> None:
    error = refused(served, body)
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    for word in (param, *words):
        assert word in error["message"]
    assert store.queued() == 0


def test_an_unknown_model_is_404(served: FlaskClient) -> None:
    error = refused(served, {"prompt": "x", "model": "sora-2"}, 404)
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "'sora-2'" in error["message"]


def test_before_any_worker_the_default_model_is_loading_and_a_name_unknown(
    client: FlaskClient,
) -> None:
    assert refused(client, {"prompt": "x"}, 503)["code"] == "model_loading"
    unknown = refused(client, {"prompt": "x", "model": "huge"}, 404)
    assert (unknown["code"], unknown["param"]) == ("model_not_found", "model")


def test_a_loading_model_is_503_with_retry_after(client: FlaskClient, workers: Workers) -> None:
    announce(workers, state="starting", card=None)
    answer = client.post("/v1/videos", json={"prompt": "x", "model": "tiny"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "5"
    assert answer.get_json()["error"]["code"] == "model_loading"
    assert "'tiny'" in answer.get_json()["error"]["message"]


def test_a_model_whose_gangs_are_away_still_queues(served: FlaskClient, workers: Workers) -> None:
    workers.withdraw("worker-1")
    assert create(served)["status"] == "queued"


# Webhooks ------------------------------------------------------------------------------------------


def test_a_webhook_without_a_secret_is_400_naming_the_setting(
    served: FlaskClient, store: JobStore
) -> None:
    error = refused(served, {"prompt": "x", "webhook_url": "https://example.com/hook"})
    assert error["param"] == "webhook_url"
    assert "RUSHES_WEBHOOK_SECRET" in error["message"]
    assert store.queued() == 0


def test_with_a_secret_a_webhook_is_checked_and_kept(
    settings: Settings, store: JobStore, workers: Workers, artifacts: ArtifactStore
) -> None:
    secret = SecretStr("whsec_" + base64.b64encode(b"0" * 32).decode())
    settings = settings.model_copy(update={"webhook_secret": secret})
    announce(workers)
    client = create_app(settings, store, workers, artifacts).test_client()
    for url in ("http://127.0.0.1/hook", "http://[::1]/", "file:///etc/passwd", "hook", "", 7):
        assert refused(client, {"prompt": "x", "webhook_url": url})["param"] == "webhook_url"
    job = create(client, webhook_url="https://example.com/hook")
    assert store.get(job["id"]).webhook_url == "https://example.com/hook"


# Look ---------------------------------------------------------------------------------------------


def test_retrieve_tells_progress_stage_and_when_to_poll(
    served: FlaskClient, store: JobStore
) -> None:
    created = create(served)
    queued = served.get(f"/v1/videos/{created['id']}")
    assert queued.json == created
    assert int(queued.headers["openai-poll-after-ms"]) > 0

    job = claim(store, created["id"])
    store.beat(job.id, job.fence, Progress(stage="denoising", step=5, steps=10))
    running = served.get(f"/v1/videos/{job.id}").get_json()
    assert (running["status"], running["stage"]) == ("in_progress", "denoising")
    assert (running["step"], running["steps"]) == (5, 10)
    assert 0 < running["progress"] < 100

    store.fail(job.id, job.fence, JobError(code="out_of_memory", message="too big"))
    failed = served.get(f"/v1/videos/{job.id}")
    assert failed.get_json()["status"] == "failed"
    assert failed.get_json()["error"] == {"code": "out_of_memory", "message": "too big"}
    assert "openai-poll-after-ms" not in failed.headers


MISSING = "video_01ARZ3NDEKTSV4RRFFQ69G5FAV"


@pytest.mark.parametrize(
    "job_id", [MISSING, "x", "video_", "video_01ARZ3NDEKTSV4RRFFQ69G5FAV%0A", "..%2F..", "%00", "é"]
)
@pytest.mark.parametrize(
    ("method", "suffix"), [("GET", ""), ("DELETE", ""), ("GET", "/content"), ("POST", "/cancel")]
)
def test_any_id_that_is_not_there_is_404(
    served: FlaskClient, job_id: str, method: str, suffix: str
) -> None:
    answer = served.open(f"/v1/videos/{job_id}{suffix}", method=method)
    assert answer.status_code == 404
    assert answer.get_json()["error"]["code"] == "not_found"


def test_anothers_job_is_404(served: FlaskClient, store: JobStore) -> None:
    job = store.get(create(served)["id"])
    other = store.submit(job.model_copy(update={"id": MISSING, "owner": "another"}))
    for method, suffix in (("GET", ""), ("DELETE", ""), ("GET", "/content"), ("POST", "/cancel")):
        path = f"/v1/videos/{other.id}{suffix}"
        assert served.open(path, method=method).status_code == 404
    assert store.get(other.id).state is State.QUEUED
    assert [each["id"] for each in served.get("/v1/videos").get_json()["data"]] == [job.id]


# List ---------------------------------------------------------------------------------------------


def test_list_pages_through_all_newest_first_and_oldest_first(served: FlaskClient) -> None:
    empty = served.get("/v1/videos").get_json()
    assert empty == {
        "object": "list", "data": [], "first_id": None, "last_id": None, "has_more": False
    }  # fmt: skip

    created = [create(served, seed=seed)["id"] for seed in range(5)]
    for order, expected in (("desc", created[::-1]), ("asc", created)):
        seen: list[str] = []
        after = ""
        while True:
            page = served.get(f"/v1/videos?limit=2&order={order}{after}").get_json()
            ids = [job["id"] for job in page["data"]]
            assert (page["first_id"], page["last_id"]) == (ids[0], ids[-1])
            seen += ids
            if not page["has_more"]:
                break
            after = f"&after={ids[-1]}"
        assert seen == expected


@pytest.mark.parametrize(
    ("query", "param"),
    [
        ("limit=0", "limit"),
        ("limit=101", "limit"),
        ("limit=many", "limit"),
        ("order=up", "order"),
        ("page=2", "page"),
    ],
)
def test_a_bad_list_query_is_400(served: FlaskClient, query: str, param: str) -> None:
    answer = served.get(f"/v1/videos?{query}")
    assert answer.status_code == 400
    assert answer.get_json()["error"]["param"] == param


def test_a_list_after_no_id_is_404(served: FlaskClient) -> None:
    assert served.get("/v1/videos?after=nothing").status_code == 404


# Cancel and delete ---------------------------------------------------------------------------------


def test_cancel_answers_the_cancelled_job_twice_alike(served: FlaskClient) -> None:
    job_id = create(served)["id"]
    first = served.post(f"/v1/videos/{job_id}/cancel")
    assert first.status_code == 200
    assert first.get_json()["status"] == "cancelled"
    assert served.post(f"/v1/videos/{job_id}/cancel").json == first.json


def test_cancel_of_a_failed_job_is_a_conflict_that_no_sdk_retries(
    served: FlaskClient, store: JobStore
) -> None:
    job = claim(store, create(served)["id"])
    store.fail(job.id, job.fence, JobError(code="error", message="x"))
    answer = served.post(f"/v1/videos/{job.id}/cancel")
    assert answer.status_code == 409
    assert answer.headers["x-should-retry"] == "false"
    assert "failed" in answer.get_json()["error"]["message"]


def test_delete_answers_openais_object_and_the_job_is_gone(
    served: FlaskClient, store: JobStore
) -> None:
    job = claim(store, create(served)["id"])
    answer = served.delete(f"/v1/videos/{job.id}")
    assert answer.status_code == 200
    assert answer.json == {"id": job.id, "object": "video.deleted", "deleted": True}
    assert served.get(f"/v1/videos/{job.id}").status_code == 404
    assert served.delete(f"/v1/videos/{job.id}").status_code == 404
    assert store.beat(job.id, job.fence) is Hold.LOST, "the worker that ran it is told to stop"
