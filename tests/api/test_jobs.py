"""Remix, retry, filters, waits, events: what images and videos share beyond OpenAI's routes."""

from __future__ import annotations

import json
import threading
import time
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.answers import poll_after_ms
from api.preferences import Preferences
from api.streams import JobStream
from jobs.record import JobError, Progress
from jobs.store import JobStore
from tests.api.test_videos import create
from tests.api.worker import claim
from tests.fixtures.waiting import wait_for


def fail(store: JobStore, job_id: str) -> None:
    job = claim(store, job_id)
    assert store.fail(job_id, job.fence, JobError(code="error", message="x"))


# Remix and retry -----------------------------------------------------------------------------------


def test_remix_is_the_old_request_with_another_prompt(served: FlaskClient, store: JobStore) -> None:
    old = create(served, seed=7, size="256x128", negative_prompt="blurry")
    answer = served.post(f"/v1/videos/{old['id']}/remix", json={"prompt": " a blue square "})
    assert answer.status_code == 200
    new = answer.get_json()
    assert new["id"] != old["id"]
    assert (new["prompt"], new["remixed_from_video_id"]) == ("a blue square", old["id"])
    first, second = store.get(old["id"]).request, store.get(new["id"]).request
    assert second == first.model_copy(update={"prompt": "a blue square"})


@pytest.mark.parametrize(
    ("body", "param"),
    [({}, "prompt"), ({"prompt": " "}, "prompt"), ({"prompt": "x", "seed": 1}, "seed")],
)
def test_a_bad_remix_is_400(served: FlaskClient, body: dict[str, Any], param: str) -> None:
    answer = served.post(f"/v1/videos/{create(served)['id']}/remix", json=body)
    assert answer.status_code == 400
    assert answer.get_json()["error"]["param"] == param


def test_retry_repeats_what_failed_or_was_cancelled(served: FlaskClient, store: JobStore) -> None:
    old = create(served, seed=7)
    refused = served.post(f"/v1/videos/{old['id']}/retry")
    assert refused.status_code == 409
    fail(store, old["id"])
    new = served.post(f"/v1/videos/{old['id']}/retry").get_json()
    assert (new["status"], new["retry_of"]) == ("queued", old["id"])
    assert store.get(new["id"]).request == store.get(old["id"]).request
    served.post(f"/v1/videos/{new['id']}/cancel")
    body = {"metadata": {"try": "3"}}
    again = served.post(f"/v1/videos/{new['id']}/retry", json=body).get_json()
    assert (again["retry_of"], again["metadata"]) == (new["id"], {"try": "3"})


# List ----------------------------------------------------------------------------------------------


def listed(client: FlaskClient, query: str) -> list[str]:
    answer = client.get(f"/v1/videos?{query}")
    assert answer.status_code == 200, answer.json
    return [job["id"] for job in answer.get_json()["data"]]


def test_a_list_is_filtered_by_status_model_and_time(served: FlaskClient, store: JobStore) -> None:
    ids = [create(served, seed=seed)["id"] for seed in range(4)]
    served.post(f"/v1/videos/{ids[1]}/cancel")
    assert listed(served, "status=cancelled") == [ids[1]]
    assert listed(served, "status=queued") == [ids[3], ids[2], ids[0]]
    assert listed(served, "status=queued&limit=1&order=asc") == [ids[0]]
    assert listed(served, f"status=queued&limit=1&order=asc&after={ids[0]}") == [ids[2]]
    assert listed(served, "model=tiny") == ids[::-1]
    assert listed(served, "model=/models/tiny") == ids[::-1], "by any of its names"
    assert listed(served, "model=other") == []
    times = [store.get(job_id).created_at for job_id in ids]
    assert listed(served, f"created_after={times[1]!r}") == [ids[3], ids[2]]
    assert listed(served, f"created_before={times[1]!r}&order=asc") == [ids[0]]
    between = f"created_after={times[0]!r}&created_before={times[3]!r}"
    assert listed(served, between) == [ids[2], ids[1]]
    assert served.get("/v1/videos?status=done").status_code == 400


def test_a_filter_finds_one_among_many(served: FlaskClient, store: JobStore) -> None:
    first = store.get(create(served)["id"])
    for number in range(1100):  # more than one call looks at
        store.submit(
            first.model_copy(update={"id": f"video_{number:026d}", "created_at": float(number)})
        )
    served.post(f"/v1/videos/video_{0:026d}/cancel")
    assert listed(served, "status=cancelled") == [f"video_{0:026d}"]


# What the job tells --------------------------------------------------------------------------------


def test_a_job_tells_its_place_its_time_and_when_to_poll(
    served: FlaskClient, store: JobStore
) -> None:
    first, second = create(served), create(served)
    assert (first["queue_position"], second["queue_position"]) == (1, 2)
    assert first["eta_s"] is None
    store.redis.set(store.key("costs", "tiny"), "[[100, 100, 100]]")
    answer = served.get(f"/v1/videos/{second['id']}")
    eta_s = answer.get_json()["eta_s"]
    assert eta_s > 0
    told_ms = int(answer.headers["openai-poll-after-ms"])
    assert told_ms == pytest.approx(poll_after_ms(eta_s), abs=10)  # eta_s is rounded
    claim(store, first["id"])
    running = served.get(f"/v1/videos/{first['id']}").get_json()
    assert running["queue_position"] is None
    assert running["eta_s"] > 0


def test_a_poll_is_never_due_too_soon_or_too_late() -> None:
    assert [poll_after_ms(eta) for eta in (None, 0, 20, 3600)] == [1000, 250, 2000, 10_000]


def test_what_a_client_notes_comes_back(served: FlaskClient) -> None:
    options = {"metadata": {"shot": "12b"}, "priority": 3, "max_waiting_s": 60, "max_running_s": 9}
    job = create(served, quality="high", user="someone", expires_after=3600, **options)
    assert {name: job[name] for name in options} == options
    form = {"prompt": "x", "metadata": '{"shot": "12b"}', "extra_body": '{"seed": 5}'}
    answer = served.post("/v1/videos", data=form, content_type="multipart/form-data")
    assert (answer.get_json()["metadata"], answer.get_json()["seed"]) == ({"shot": "12b"}, 5)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"metadata": {"a": 1}}, "metadata.a"),
        ({"metadata": {str(n): "x" for n in range(17)}}, "metadata"),
        ({"metadata": "no json"}, "metadata"),
        ({"priority": 10}, "priority"),
        ({"expires_after": 1}, "expires_after"),
        ({"max_waiting_s": 0}, "max_waiting_s"),
        ({"max_running_s": "soon"}, "max_running_s"),
        ({"extra_body": {"seed": 1}, "seed": 1}, "seed"),
        ({"extra_body": {"speed": 1}}, "speed"),
        ({"extra_body": 7}, "extra_body"),
        ({"extra_body": "{"}, "extra_body"),
    ],
)
def test_bad_options_are_400_by_name(served: FlaskClient, body: dict[str, Any], param: str) -> None:
    answer = served.post("/v1/videos", json={"prompt": "x"} | body)
    assert answer.status_code == 400
    assert answer.get_json()["error"]["param"] == param


def test_the_request_that_made_a_job_is_told(served: FlaskClient) -> None:
    answer = served.post("/v1/videos", json={"prompt": "x"}, headers={"x-request-id": "mine"})
    assert answer.get_json()["request_id"] == "mine"


# Idempotency ---------------------------------------------------------------------------------------


def test_an_idempotency_key_makes_one_job(served: FlaskClient, store: JobStore) -> None:
    headers = {"idempotency-key": "abc"}
    first = served.post("/v1/videos", json={"prompt": "x"}, headers=headers)
    again = served.post("/v1/videos", json={"prompt": "x"}, headers=headers)
    assert first.get_json() == again.get_json()
    form = {"prompt": "x"}
    same = served.post("/v1/videos", data=form, content_type="multipart/form-data", headers=headers)
    assert same.get_json()["id"] == first.get_json()["id"], "the same in other words"
    other = served.post("/v1/videos", json={"prompt": "y"}, headers=headers)
    assert (other.status_code, other.headers["x-should-retry"]) == (409, "false")
    assert other.get_json()["error"]["code"] == "idempotency_key_reused"
    path = f"/v1/videos/{first.get_json()['id']}/remix"
    assert served.post(path, json={"prompt": "x"}, headers=headers).status_code == 409
    assert store.queued() == 1
    for bad in ("", "x" * 256, "a b"):
        headers = {"idempotency-key": bad}
        assert served.post("/v1/videos", json={"prompt": "x"}, headers=headers).status_code == 400


def test_one_key_at_the_same_time_is_one_job(
    app: Flask, served: FlaskClient, store: JobStore
) -> None:
    ids: list[str] = []

    def post() -> None:
        answer = app.test_client().post(
            "/v1/videos", json={"prompt": "x"}, headers={"idempotency-key": "k"}
        )
        ids.append(answer.get_json()["id"])

    threads = [threading.Thread(target=post) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(ids), len(set(ids)), store.queued()) == (8, 1, 1)


# Prefer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", Preferences()),
        ("wait=5", Preferences(wait_s=5)),
        ('Respond-Async, WAIT="5"', Preferences(True, 5)),
        ("wait=5, wait=9", Preferences(wait_s=5)),
        ("wait=-1", Preferences()),
        ("wait=soon, other; x=1", Preferences()),
        ("respond-async; foo", Preferences(True)),
    ],
)
def test_prefer_is_read_as_the_rfc_has_it(header: str, expected: Preferences) -> None:
    assert Preferences.read(header) == expected


def test_a_wait_ends_with_the_job(served: FlaskClient, store: JobStore) -> None:
    def end() -> None:
        wait_for(lambda: store.queued() == 1, "accepted")
        fail(store, store.list("anonymous").jobs[0].id)

    thread = threading.Thread(target=end)
    thread.start()
    began = time.monotonic()
    answer = served.post("/v1/videos", json={"prompt": "x"}, headers={"prefer": "wait=30"})
    thread.join()
    assert answer.headers["preference-applied"] == "wait=30"
    assert answer.get_json()["status"] == "failed"
    assert time.monotonic() - began < 10


def test_a_wait_is_bounded_and_answers_the_job_as_it_stands(served: FlaskClient) -> None:
    answer = served.post("/v1/videos", json={"prompt": "x"}, headers={"prefer": "wait=1"})
    assert answer.status_code == 200
    assert answer.get_json()["status"] == "queued"
    assert answer.headers["openai-poll-after-ms"]


@pytest.mark.parametrize("path", ["/v1/videos", "/v1/images/generations"])
def test_respond_async_is_202_for_what_goes_on_after_the_wait(
    served: FlaskClient, path: str
) -> None:
    for asked in ("respond-async", "respond-async, wait=1"):
        answer = served.post(path, json={"prompt": "x"}, headers={"prefer": asked})
        assert (answer.status_code, answer.headers["preference-applied"]) == (202, asked)
        job = served.get(answer.headers["location"]).get_json()
        assert (job["id"], job["status"]) == (answer.get_json()["id"], "queued")


# Events --------------------------------------------------------------------------------------------


def test_a_stream_tells_every_step_and_ends_with_the_job(
    served: FlaskClient, store: JobStore
) -> None:
    job_id = create(served)["id"]
    answer = served.get(f"/v1/videos/{job_id}/events", buffered=False)
    assert answer.content_type == "text/event-stream"
    events = Told(answer.iter_encoded())
    assert events.next()[1]["status"] == "queued"
    job = claim(store, job_id)
    kind, data = events.next()
    assert (kind, data["status"]) == ("status", "in_progress")
    store.beat(job_id, job.fence, Progress(stage="denoising", step=3, steps=10))
    kind, data = events.next()
    assert (kind, data["stage"], data["step"]) == ("progress", "denoising", 3)
    store.show_preview(job_id, job.fence, b"webp")
    image = "data:image/webp;base64,d2VicA=="
    assert events.next() == ("preview", {"id": job_id, "image": image})
    store.cancel(job_id)
    assert events.next()[1]["status"] == "cancelled"
    assert events.over()


def test_a_stream_of_a_finished_job_is_one_event(served: FlaskClient, store: JobStore) -> None:
    job_id = create(served)["id"]
    fail(store, job_id)
    events = Told(served.get(f"/v1/videos/{job_id}/events").iter_encoded())
    assert events.next()[1]["error"]["code"] == "error"
    assert events.over()


def test_a_stream_beats_and_says_that_its_job_was_deleted(
    app: Flask, served: FlaskClient, store: JobStore
) -> None:
    job_id = create(served)["id"]
    with app.app_context():
        stream = JobStream(app.extensions["rushes"], job_id, "anonymous", heartbeat_s=0.05)
        next(stream)
        wait_for(lambda: next(stream) == b": heartbeat\n\n", "a heartbeat")
        store.delete(job_id)
        last = [chunk for chunk in stream if not chunk.startswith(b":")]
        assert last == [b'event: deleted\ndata: {"id":"' + job_id.encode() + b'"}\n\n']
        stream.close()


def test_streams_are_bounded(app: Flask, served: FlaskClient) -> None:
    job_id = create(served)["id"]
    parts = app.extensions["rushes"]
    streams = [JobStream(parts, job_id, "anonymous") for _ in range(parts.settings.max_streams)]
    answer = served.get(f"/v1/videos/{job_id}/events")
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (503, "too_many_streams")
    streams[0].close()
    answer = served.get(f"/v1/videos/{job_id}/events", buffered=False)
    assert answer.status_code == 200
    answer.close()
    for stream in streams:
        stream.close()
    assert parts.events.open == 0, "a stream that nobody read lets go too"


class Told:
    """The events of a stream, read one by one."""

    def __init__(self, chunks: Any) -> None:
        self._chunks = iter(chunks)

    def next(self) -> tuple[str, dict[str, Any]]:
        chunk = next(chunk for chunk in self._chunks if not chunk.startswith(b":"))
        event, data = chunk.decode().strip().split("\n")
        return event.removeprefix("event: "), json.loads(data.removeprefix("data: "))

    def over(self) -> bool:
        return not [chunk for chunk in self._chunks if not chunk.startswith(b":")]
