"""Webhooks as a client orders them, looks after them, and asks for one again."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr

from api.app import create_app
from api.objects import WebhookDeliveries
from jobs.artifacts import ArtifactStore
from jobs.keys import Keys, Rights
from jobs.settings import Settings
from jobs.states import State
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.test_videos import create, refused
from tests.api.worker import announce

URL = "https://example.com/hook"


@pytest.fixture
def settings(settings: Settings) -> Settings:
    secret = SecretStr("whsec_" + base64.b64encode(b"0" * 32).decode())
    return settings.model_copy(update={"webhook_secret": secret})


def test_events_are_chosen_by_name(served: FlaskClient, store: JobStore) -> None:
    chosen = ["video.in_progress", "video.failed"]
    job = create(served, webhook_url=URL, webhook_events=chosen)
    assert store.get(job["id"]).webhook_events == (State.IN_PROGRESS, State.FAILED)
    form = served.post(
        "/v1/videos",
        data={"prompt": "x", "webhook_url": URL, "webhook_events": "video.completed, video.failed"},
        content_type="multipart/form-data",
    )
    kept = store.get(form.get_json()["id"])
    assert kept.webhook_events == (State.COMPLETED, State.FAILED)


@pytest.mark.parametrize(
    "body",
    [
        {"webhook_url": URL, "webhook_events": ["image.completed"]},
        {"webhook_url": URL, "webhook_events": ["video.started"]},
        {"webhook_url": URL, "webhook_events": "[1"},
        {"webhook_events": ["video.completed"]},
    ],
)
def test_events_that_mean_nothing_are_refused(served: FlaskClient, body: dict[str, Any]) -> None:
    assert refused(served, {"prompt": "x"} | body)["param"].startswith("webhook_events")


def test_a_key_has_a_webhook_of_its_own(
    settings: Settings, store: JobStore, workers: Workers, artifacts: ArtifactStore
) -> None:
    rights = Rights(webhook_url=URL, webhook_events=(State.COMPLETED,))
    key, text = Keys(store).create("ada", rights)
    assert Keys(store).list() == (key,)
    announce(workers)
    client = create_app(settings, store, workers, artifacts).test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {text}"

    def kept(**body: Any) -> tuple[str | None, tuple[State, ...]]:
        job = store.get(create(client, **body)["id"])
        return job.webhook_url, job.webhook_events

    other = "https://other.example/"
    assert kept() == (URL, (State.COMPLETED,))
    assert kept(webhook_events=["video.failed"]) == (URL, (State.FAILED,))
    assert kept(webhook_url=other) == (other, ())
    assert kept(webhook_events=[]) == (None, ())


def test_deliveries_are_listed_and_replayed(served: FlaskClient, store: JobStore) -> None:
    job_id = create(served, webhook_url=URL)["id"]
    path = f"/v1/videos/{job_id}/deliveries"
    assert served.get(path).get_json()["data"] == []
    store.cancel(job_id)
    listed = served.get(path).get_json()
    WebhookDeliveries.model_validate(listed)
    (delivery,) = listed["data"]
    assert (delivery["type"], delivery["status"]) == ("video.cancelled", "pending")
    again = served.post(f"{path}/{delivery['webhook_id']}/replay")
    assert again.status_code == 200
    assert again.get_json()["webhook_id"] == delivery["webhook_id"]
    other = create(served)["id"]
    assert served.post(f"{path}/evt_other/replay").status_code == 404
    swapped = f"/v1/videos/{other}/deliveries/{delivery['webhook_id']}/replay"
    assert served.post(swapped).status_code == 404
