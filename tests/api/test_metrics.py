"""/metrics: what Redis knows, the same from every process."""

from __future__ import annotations

import re
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient
from prometheus_client.parser import text_string_to_metric_families

from api.app import create_app
from api.errors import CREATES
from api.openapi import OPERATIONS
from jobs.artifacts import ArtifactStore
from jobs.keys import Keys, Rights
from jobs.record import new_id
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.test_videos import create
from tests.api.worker import finish


def scraped(client: FlaskClient) -> dict[str, float]:
    answer = client.get("/metrics")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/plain")
    return {
        sample.name
        + "".join(f" {value}" for _, value in sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_metrics_tell_queue_jobs_gangs_and_refusals(
    served: FlaskClient,
    store: JobStore,
    artifacts: ArtifactStore,
    tmp_path: Path,
) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"clip")
    finish(store, artifacts, create(served)["id"], clip)
    create(served)
    create(served, priority=2)
    Workers(store).note_start("tiny", 12.0, again=True)
    served.post("/v1/videos", json={"prompt": ""})
    served.get("/v1/videos?limit=0")
    other_process = create_app(store.settings, store, Workers(store), artifacts).test_client()
    for client in (served, other_process):
        values = scraped(client)
        assert values["rushes_queue_depth tiny 0"] == 1
        assert values["rushes_queue_depth tiny 2"] == 1
        assert 0 <= values["rushes_queue_oldest_seconds tiny 0"] < 60
        assert values["rushes_accepted_total tiny"] == 3
        assert values["rushes_refused_total invalid_value"] == 1
        assert values["rushes_jobs_total tiny completed"] == 1
        assert values["rushes_gangs tiny ready"] == 1
        assert values["rushes_gangs tiny starting"] == 0
        assert values["rushes_device_seconds_total tiny"] == 2.5
        assert values["rushes_queue_seconds_count tiny"] == 1
        assert values["rushes_stage_seconds_sum tiny denoising"] == 1.0
        assert values["rushes_stage_seconds_bucket 1 tiny denoising"] == 1
        assert values["rushes_stage_seconds_bucket 0.5 tiny denoising"] == 0
        assert values["rushes_stage_seconds_bucket +Inf tiny denoising"] == 1
        assert values["rushes_load_seconds_count tiny"] == 1
        assert values["rushes_restarts_total tiny"] == 1


def test_only_creates_are_counted_as_refused(app: Flask, served: FlaskClient) -> None:
    made = {
        rule.endpoint
        for rule in app.url_map.iter_rules()
        for operation in OPERATIONS
        if operation.creates and re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule) == operation.path
    }
    assert made - {"video_jobs.index", "image_jobs.index"} == CREATES
    nobodys = f"/v1/videos/{new_id('video')}"
    assert served.post(f"{nobodys}/cancel").status_code == 404
    assert served.post("/v1/admin/workers/none/drain").status_code == 404
    assert served.post("/v1/wall").status_code == 404
    assert [name for name in scraped(served) if name.startswith("rushes_refused")] == []
    assert served.post(f"{nobodys}/remix", json={"prompt": "x"}).status_code == 404
    assert scraped(served)["rushes_refused_total not_found"] == 1


def test_with_keys_metrics_are_for_admins(app: Flask, store: JobStore) -> None:
    keys = Keys(store)
    client = app.test_client()
    for scope, status in (("user", 403), ("admin", 200)):
        _, text = keys.create(scope, Rights.model_validate({"scope": scope}))
        headers = {"authorization": f"Bearer {text}"}
        assert client.get("/metrics", headers=headers).status_code == status
    assert client.get("/metrics").status_code == 401
