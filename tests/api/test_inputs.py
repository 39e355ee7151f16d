"""Input images: uploaded, checked and stored before the job is, and gone with it."""

from __future__ import annotations

import io
import json
from typing import Any, cast

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from api.app import create_app
from jobs.artifacts import ArtifactStore
from jobs.errors import NotFound, StoreUnavailable
from jobs.inputs import input_key
from jobs.record import Job, JobError
from jobs.relay.board import Board
from jobs.relay.sweeper import Sweeper
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.worker import CARD, announce, claim
from tests.fixtures.pictures import data_url, picture

TEAL, RED = picture(), picture("JPEG", colour="red")
PROMPT = {"prompt": "a wall"}
FORM, JSON = "multipart/form-data", "application/json"


@pytest.fixture
def app(settings: Settings, store: JobStore, workers: Workers, artifacts: ArtifactStore) -> Flask:
    """With a model that takes up to two images."""
    workloads = ("t2v", "i2v", "t2i", "i2i")
    card = CARD.model_copy(
        update={"workloads": workloads, "max_images": 2, "max_image_pixels": 4096}
    )
    announce(workers, card=card)
    return create_app(settings, store, workers, artifacts)


def part(data: bytes = TEAL, name: str = "wall.png") -> tuple[io.BytesIO, str]:
    return io.BytesIO(data), name


def make(client: FlaskClient, image: Any = None, **headers: str) -> TestResponse:
    """A video from `image`, sent as a form."""
    form = PROMPT | ({} if image is None else {"input_reference": image})
    return client.post("/v1/videos", data=form, content_type=FORM, headers=headers)


def edit(client: FlaskClient, **form: Any) -> TestResponse:
    """An image from others, as a job."""
    headers = {"prefer": "respond-async"}
    return client.post("/v1/images/edits", data=PROMPT | form, content_type=FORM, headers=headers)


def stored(artifacts: ArtifactStore, job: Job) -> list[bytes]:
    return [b"".join(artifacts.read(input_key(job.id, name))) for name in job.request.images]


def swept(store: JobStore) -> dict[str, float]:
    noted = store.redis.zrange(store.key("sweep"), 0, -1, withscores=True)
    return dict(cast("list[tuple[str, float]]", noted))


def sweep(store: JobStore, workers: Workers, artifacts: ArtifactStore) -> None:
    Sweeper(Board(store, "test"), workers, artifacts, lambda: True).sweep()


def refused(answer: TestResponse, status: int = 400) -> tuple[str, str]:
    assert answer.status_code == status, answer.data
    error = answer.get_json()["error"]
    return error["param"], error["message"]


# Forms of one image ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "body"),
    [
        (FORM, {"input_reference": part}),
        (FORM, {"input_reference": data_url(TEAL)}),
        (FORM, {"input_reference[image_url]": data_url(TEAL)}),
        (JSON, {"input_reference": data_url(TEAL)}),
        (JSON, {"input_reference": {"image_url": data_url(TEAL)}}),
        (JSON, {"extra_body": {"input_reference": data_url(TEAL)}}),
    ],
    ids=["file", "text", "SDK", "data URL", "object", "extra_body"],
)
def test_an_image_comes_with_a_video(
    client: FlaskClient, store: JobStore, artifacts: ArtifactStore, how: str, body: dict[str, Any]
) -> None:
    body = {name: value() if callable(value) else value for name, value in body.items()}
    data = json.dumps(PROMPT | body) if how == JSON else PROMPT | body
    answer = client.post("/v1/videos", data=data, content_type=how)
    assert answer.status_code == 200, answer.data
    job = store.get(answer.get_json()["id"])
    assert (job.request.workload, job.request.images) == ("i2v", ("image-1",))
    assert stored(artifacts, job) == [TEAL]
    assert swept(store) == {}


@pytest.mark.parametrize("name", ["image", "image[]"])
def test_images_come_with_an_edit(
    client: FlaskClient, store: JobStore, artifacts: ArtifactStore, name: str
) -> None:
    answer = edit(client, **{name: [part(TEAL), part(RED)]})
    assert answer.status_code == 202, answer.data
    job = store.get(answer.get_json()["id"])
    assert (job.kind, job.request.workload, job.request.num_frames) == ("image", "i2i", 1)
    assert stored(artifacts, job) == [TEAL, RED]


@pytest.mark.parametrize(
    "images",
    [
        {"image": data_url(TEAL)},
        {"image": [data_url(TEAL)]},
        {"images": [{"image_url": data_url(TEAL)}]},
    ],
)
def test_images_come_with_an_edit_as_json(
    client: FlaskClient, store: JobStore, artifacts: ArtifactStore, images: dict[str, Any]
) -> None:
    headers = {"prefer": "respond-async"}
    answer = client.post("/v1/images/edits", json=PROMPT | images, headers=headers)
    assert answer.status_code == 202, answer.data
    assert stored(artifacts, store.get(answer.get_json()["id"])) == [TEAL]


# What is refused, before anything is stored -------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is an empty file"),
        (b"teal", "must be a PNG, JPEG or WebP image"),
        (TEAL[:20], "its png header tells no size"),
        (picture(size=(65, 64)), "may have at most 4096 pixels, got '65x64'"),
    ],
)
def test_what_is_no_image_for_the_model_is_400(
    client: FlaskClient, store: JobStore, data: bytes, words: str
) -> None:
    param, message = refused(make(client, part(data)))
    assert param == "input_reference"
    assert words in message
    assert store.queued() == 0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("wall.png", "must be a file of a form, a data URL"),
        ("data:image/png,abc", "must read data:image/png;base64"),
        ("data:image/png;base64,***", "broken base64"),
        ("https://example.com/wall.png", "the server fetches no URLs here"),
        ({"file_id": "file-1"}, "keeps no files"),
        ({"image_url": 3}, "must be a file of a form, a data URL"),
        ({}, 'or an object {"image_url": ...}'),
        (7, "must be a file of a form, a data URL"),
        ([data_url(TEAL)], "must be a file of a form, a data URL"),
    ],
    ids=str,
)
def test_what_names_no_image_is_400(client: FlaskClient, value: object, words: str) -> None:
    answer = client.post("/v1/videos", json=PROMPT | {"input_reference": value})
    param, message = refused(answer)
    assert param == "input_reference"
    assert words in message


@pytest.mark.parametrize(
    ("form", "param", "words"),
    [
        ({}, "image", "is required"),
        ({"image": [part] * 3}, "image", "may be given at most 2 times with tiny, got 3"),
        ({"image": [part] * 17}, "image", "may be given at most 2 times"),
        ({"image": part, "image[]": part}, "image[]", "given in two ways"),
        ({"image": part, "mask": part}, "mask", "no served model paints in a mask"),
        ({"image": part, "seed": part}, "seed", "a file of"),
        ({"image": part, "wall": part}, "wall", "is unknown"),
    ],
)
def test_an_edit_that_cannot_be_is_400(
    client: FlaskClient, form: dict[str, Any], param: str, words: str
) -> None:
    sent = {
        name: [each() for each in value] if isinstance(value, list) else value()
        for name, value in form.items()
    }
    named, message = refused(edit(client, **sent))
    assert named == param
    assert words in message


def test_a_model_that_takes_no_images_says_so(client: FlaskClient, workers: Workers) -> None:
    announce(workers)
    words = "may be given at most 0 times with tiny, got 1"
    assert refused(make(client, part())) == ("input_reference", f"input_reference {words}")
    served = "model must serve i2i; this one serves t2v, t2i, got 'tiny'"
    assert refused(edit(client, image=part())) == ("model", served)


# Stored before submit, swept unless it comes to that -----------------------------------------------


def test_a_refused_job_leaves_nothing(
    settings: Settings, store: JobStore, workers: Workers, artifacts: ArtifactStore, app: Flask
) -> None:
    full = JobStore(store.redis, settings.model_copy(update={"max_queued": 1}))
    client = create_app(settings, full, workers, artifacts).test_client()
    assert make(client).status_code == 200
    assert make(client, part()).status_code == 429
    (folder,) = swept(store)
    assert artifacts.size(f"jobs/{folder}image-1") == len(TEAL)
    sweep(store, workers, artifacts)
    with pytest.raises(NotFound):
        artifacts.size(f"jobs/{folder}image-1")
    assert swept(store) == {}


def test_a_crash_between_upload_and_submit_leaves_nothing(
    client: FlaskClient,
    store: JobStore,
    workers: Workers,
    artifacts: ArtifactStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def crash(*_: object, **__: object) -> None:
        raise StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(JobStore, "accept", crash)
        assert make(client, part()).status_code == 503
    ((folder, due),) = swept(store).items()
    sweep(store, workers, artifacts)
    assert artifacts.size(f"jobs/{folder}image-1") == len(TEAL), "an upload may take its time"
    store.redis.zadd(store.key("sweep"), {folder: due - 900})
    sweep(store, workers, artifacts)
    with pytest.raises(NotFound):
        artifacts.size(f"jobs/{folder}image-1")


@pytest.mark.parametrize("late", ["due", "swept"])
def test_a_job_whose_images_are_being_swept_is_refused(
    client: FlaskClient, store: JobStore, monkeypatch: pytest.MonkeyPatch, late: str
) -> None:
    accept = JobStore.accept

    def slowly(self: JobStore, job: Job, **options: Any) -> object:
        folder = f"{job.id}/inputs/"
        if late == "due":
            store.redis.zadd(store.key("sweep"), {folder: 1})
        else:
            store.redis.zrem(store.key("sweep"), folder)
        return accept(self, job, **options)

    monkeypatch.setattr(JobStore, "accept", slowly)
    answer = make(client, part())
    assert answer.status_code == 503
    assert answer.get_json()["error"]["code"] == "storage_unavailable"
    assert store.queued() == 0


def test_an_idempotency_key_stands_for_the_bytes(client: FlaskClient, store: JobStore) -> None:
    key = {"idempotency-key": "k"}
    first = make(client, part(), **key).get_json()["id"]
    again = make(client, part(name="other.png"), **key)
    assert again.get_json()["id"] == first
    assert make(client, part(RED), **key).status_code == 409
    assert swept(store) == {}, "what a repeated request brings is not even stored"


def test_of_two_requests_at_once_under_one_key_the_later_ones_images_are_swept(
    client: FlaskClient,
    store: JobStore,
    workers: Workers,
    artifacts: ArtifactStore,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    key = {"idempotency-key": "k"}
    first = make(client, part(), **key).get_json()["id"]
    monkeypatch.setattr(JobStore, "accepted", lambda *_: None)  # it looked before the first was in
    assert make(client, part(), **key).get_json()["id"] == first
    assert len(swept(store)) == 1
    sweep(store, workers, artifacts)
    assert swept(store) == {}
    assert stored(artifacts, store.get(first)) == [TEAL]


# Copied and deleted ----------------------------------------------------------------------------------


def test_a_remix_and_a_retry_have_images_of_their_own(
    client: FlaskClient, store: JobStore, workers: Workers, artifacts: ArtifactStore
) -> None:
    job_id = make(client, part()).get_json()["id"]
    remix = client.post(f"/v1/videos/{job_id}/remix", json={"prompt": "a fence"}).get_json()
    job = claim(store, job_id)
    store.fail(job_id, job.fence, JobError(code="error", message="as told"))
    retry = client.post(f"/v1/videos/{job_id}/retry").get_json()
    assert client.delete(f"/v1/videos/{job_id}").status_code == 200
    sweep(store, workers, artifacts)
    for copy in (remix, retry):
        assert stored(artifacts, store.get(copy["id"])) == [TEAL]
    with pytest.raises(NotFound):
        artifacts.size(input_key(job_id, "image-1"))


def test_a_remix_of_what_is_being_deleted_is_404(
    client: FlaskClient, store: JobStore, artifacts: ArtifactStore
) -> None:
    job_id = make(client, part()).get_json()["id"]
    artifacts.delete_prefix(f"jobs/{job_id}")
    answer = client.post(f"/v1/videos/{job_id}/remix", json={"prompt": "a fence"})
    assert answer.status_code == 404
    assert store.queued() == 1
