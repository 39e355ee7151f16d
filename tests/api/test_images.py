"""Images: synchronous as OpenAI has them, or a job at once."""

from __future__ import annotations

import base64
import io
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from flask.testing import FlaskClient

from api.app import create_app
from jobs.artifacts import ArtifactStore
from jobs.record import JobError
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.worker import CARD, announce, claim, finish
from tests.fixtures.pictures import data_url, picture
from tests.fixtures.waiting import wait_for

PNG = b"\x89PNG not really"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    file = tmp_path / "image.png"
    file.write_bytes(PNG)
    return file


@pytest.fixture
def meanwhile(store: JobStore) -> Any:
    """Does something to the next job that is accepted, while a client waits for it."""
    threads: list[threading.Thread] = []

    def begin(act: Callable[[str], object]) -> None:
        def run() -> None:
            wait_for(lambda: store.queued() == 1, "accepted")
            act(store.list("anonymous").jobs[0].id)

        threads.append(threading.Thread(target=run))
        threads[-1].start()

    yield begin
    for thread in threads:
        thread.join()


def post(client: FlaskClient, headers: dict[str, str] | None = None, **body: Any) -> Any:
    return client.post(
        "/v1/images/generations", json={"prompt": "a red circle"} | body, headers=headers
    )


def test_an_image_comes_with_the_answer(
    served: FlaskClient, store: JobStore, artifacts: ArtifactStore, image: Path, meanwhile: Any
) -> None:
    meanwhile(lambda job_id: finish(store, artifacts, job_id, image, kind="image"))
    answer = post(served, response_format="b64_json", n=1, size="auto", quality="hd", seed=3)
    assert answer.status_code == 200, answer.json
    body = answer.get_json()
    assert base64.b64decode(body["data"][0]["b64_json"]) == PNG
    assert body["data"][0]["seed"] == 3
    assert isinstance(body["created"], int)
    job = store.get(body["id"])
    assert (job.kind, job.request.workload, job.request.num_frames) == ("image", "t2i", 1)


def test_an_images_link_leads_to_it(
    served: FlaskClient, store: JobStore, artifacts: ArtifactStore, image: Path, meanwhile: Any
) -> None:
    meanwhile(lambda job_id: finish(store, artifacts, job_id, image, kind="image"))
    body = post(served).get_json()
    url = body["data"][0]["url"]
    assert url == f"http://localhost/v1/images/{body['id']}/content"
    content = served.get(url)
    assert (content.status_code, content.data, content.content_type) == (200, PNG, "image/png")
    job = served.get(f"/v1/images/{body['id']}").get_json()
    assert (job["object"], job["status"]) == ("image", "completed")
    assert served.get(f"/v1/videos/{body['id']}").status_code == 404
    assert served.get("/v1/videos").get_json()["data"] == []
    assert [each["id"] for each in served.get("/v1/images").get_json()["data"]] == [job["id"]]


def test_respond_async_answers_a_job_at_once(served: FlaskClient, store: JobStore) -> None:
    answer = post(served, {"prefer": "respond-async"})
    assert answer.status_code == 202
    assert answer.headers["preference-applied"] == "respond-async"
    job = answer.get_json()
    assert answer.headers["location"] == f"/v1/images/{job['id']}"
    assert served.get(answer.headers["location"]).get_json()["status"] == "queued"


def test_an_image_that_is_done_within_the_wait_comes_with_the_answer(
    served: FlaskClient, store: JobStore, artifacts: ArtifactStore, image: Path, meanwhile: Any
) -> None:
    meanwhile(lambda job_id: finish(store, artifacts, job_id, image, kind="image"))
    answer = post(served, {"prefer": "respond-async, wait=30"}, response_format="b64_json")
    assert (answer.status_code, answer.headers["preference-applied"]) == (200, "wait=30")
    assert base64.b64decode(answer.get_json()["data"][0]["b64_json"]) == PNG


def test_what_openais_clients_send_besides_is_taken_without_effect(
    served: FlaskClient, store: JobStore
) -> None:
    given: dict[str, Any] = {"output_compression": 80, "partial_images": 0, "style": "vivid",
        "moderation": "low", "safety_identifier": "u1", "background": "auto", "stream": False,
    }  # fmt: skip
    plain, rich = (
        post(served, {"prefer": "respond-async"}, seed=1, **more).get_json()["id"]
        for more in ({}, given)
    )
    assert store.get(plain).request == store.get(rich).request


def test_past_the_wait_it_is_504_with_the_id_and_nothing_is_doubled(
    settings: Settings, store: JobStore, workers: Workers, artifacts: ArtifactStore
) -> None:
    announce(workers)
    settings = settings.model_copy(update={"image_wait_s": 1})
    client = create_app(settings, store, workers, artifacts).test_client()
    answer = post(client)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (504, "false")
    error = answer.get_json()["error"]
    assert error["code"] == "image_timeout"
    assert error["id"] == store.list("anonymous").jobs[0].id
    assert error["id"] in error["message"]
    assert client.get("/metrics").text.count("rushes_refused_total{") == 0


def test_a_failed_image_is_an_error_that_no_sdk_retries(
    served: FlaskClient, store: JobStore, meanwhile: Any
) -> None:
    def fail(job_id: str) -> None:
        job = claim(store, job_id)
        store.fail(job_id, job.fence, JobError(code="out_of_memory", message="too big"))

    meanwhile(fail)
    answer = post(served)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (500, "false")
    assert answer.get_json()["error"]["code"] == "out_of_memory"


@pytest.mark.parametrize("code", ["invalid_request", "input_missing"])
def test_an_image_that_the_gang_cannot_read_is_400(
    client: FlaskClient, store: JobStore, workers: Workers, meanwhile: Any, code: str
) -> None:
    workloads = (*CARD.workloads, "i2i")
    announce(workers, card=CARD.model_copy(update={"workloads": workloads, "max_images": 1}))

    def fail(job_id: str) -> None:
        job = claim(store, job_id)
        store.fail(job_id, job.fence, JobError(code=code, message="image cannot be read"))

    meanwhile(fail)
    form = {"prompt": "in snow", "image": (io.BytesIO(picture()), "fox.png")}
    answer = client.post("/v1/images/edits", data=form, content_type="multipart/form-data")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (400, "false")
    error = answer.get_json()["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", "image")


@pytest.mark.parametrize("count", [2, 17])
def test_more_images_than_the_model_takes_are_refused_with_its_limit(
    client: FlaskClient, workers: Workers, count: int
) -> None:
    workloads = (*CARD.workloads, "i2i")
    announce(workers, card=CARD.model_copy(update={"workloads": workloads, "max_images": 1}))
    form = {
        "prompt": "in snow",
        "image[]": [(io.BytesIO(picture()), f"{index}.png") for index in range(count)],
    }
    answer = client.post("/v1/images/edits", data=form, content_type="multipart/form-data")
    assert answer.status_code == 400
    error = answer.get_json()["error"]
    assert error["param"] == "image"
    assert error["message"] == f"image may be given at most 1 times with tiny, got {count}"


@pytest.mark.parametrize(("route", "workload"), [("generations", "t2i"), ("edits", "i2i")])
def test_a_model_that_makes_no_such_images_is_refused_by_name(
    client: FlaskClient, workers: Workers, route: str, workload: str
) -> None:
    workloads = ("t2v", "i2v")
    announce(workers, card=CARD.model_copy(update={"workloads": workloads, "max_images": 1}))
    body = {"prompt": "x"} | ({"image": data_url(picture())} if route == "edits" else {})
    answer = client.post(f"/v1/images/{route}", json=body)
    assert answer.status_code == 400
    error = answer.get_json()["error"]
    assert error["param"] == "model"
    assert f"must serve {workload}; this one serves t2v, i2v, got 'tiny'" in error["message"]


def test_a_cancelled_image_is_a_conflict(
    served: FlaskClient, store: JobStore, meanwhile: Any
) -> None:
    meanwhile(store.cancel)
    answer = post(served)
    assert (answer.status_code, answer.headers["x-should-retry"]) == (409, "false")


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"n": 5}, "n"),
        ({"num_frames": 1}, "num_frames"),
        ({"response_format": "svg"}, "response_format"),
        ({"output_format": "tiff"}, "output_format"),
        ({"stream": True}, "stream"),
        ({"background": "transparent"}, "background"),
        ({"output_compression": 101}, "output_compression"),
        ({"partial_images": 4}, "partial_images"),
        ({"size": "100x100"}, "size"),
        ({"prompt": ""}, "prompt"),
    ],
)
def test_a_bad_image_is_400_by_name(
    served: FlaskClient, store: JobStore, body: dict[str, Any], param: str
) -> None:
    answer = post(served, **body)
    assert answer.status_code == 400
    assert answer.get_json()["error"]["param"] == param
    assert store.queued() == 0
