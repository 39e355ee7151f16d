"""/openapi.json says what the API does: every route, every field."""

from __future__ import annotations

import re
from pathlib import Path

from flask import Flask
from flask.testing import FlaskClient

from api.objects import JobList, JobObject
from api.openapi import OPERATIONS, document
from jobs.artifacts import ArtifactStore
from jobs.store import JobStore
from tests.api.test_videos import create
from tests.api.worker import finish


def test_every_route_is_in_the_document_and_nothing_else(app: Flask) -> None:
    routes = {
        (method.lower(), re.sub(r"<(\w+:)?(\w+)>", r"{\2}", rule.rule))
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith(
            ("/v1", "/health", "/livez", "/readyz", "/metrics", "/openapi", "/docs")
        )
    }
    assert routes == {(operation.method, operation.path) for operation in OPERATIONS}


def test_the_document_names_every_field_that_validates() -> None:
    schemas = document()["components"]["schemas"]
    assert document()["openapi"].startswith("3.1")
    for operation in OPERATIONS:
        if operation.body is not None:
            schema = schemas[operation.body.__name__]
            assert schema["properties"].keys() == operation.body.model_fields.keys()
            assert schema["additionalProperties"] is False


def test_job_objects_are_as_documented(
    served: FlaskClient, store: JobStore, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    clip = tmp_path / "clip.mp4"
    clip.write_bytes(b"clip")
    job = create(served)
    finish(store, artifacts, job["id"], clip)
    done = served.get(f"/v1/videos/{job['id']}").get_json()
    for each in (job, done):
        JobObject.model_validate(each, strict=False)
        assert each.keys() == JobObject.model_fields.keys(), "document what is new"
    JobList.model_validate(served.get("/v1/videos").get_json())


def test_the_page_is_whole_and_loads_nothing(served: FlaskClient) -> None:
    answer = served.get("/docs")
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/html")
    for operation in OPERATIONS:
        assert operation.path in answer.text
    assert not re.findall(r"(?:src|href)=[\"']?(?:https?:)?//", answer.text)
    assert "<script" not in answer.text
