"""/openapi.json says what the API does: every route, every field, and schemathesis finds no gap."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.config import SchemathesisConfig
from schemathesis.core.result import Ok

from api.objects import JobList, JobObject
from api.openapi import OPERATIONS, document
from jobs.artifacts import ArtifactStore
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.test_videos import create
from tests.api.worker import announce, finish


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


@pytest.fixture
def schema(app: Flask, workers: Workers) -> schemathesis.BaseSchema:
    announce(workers)
    checks = {
        "positive_data_acceptance": {
            # Limits are each model's own: what fits the schema may still be too large.
            "expected-statuses": ["2xx", 400, 401, 403, 404, 409, 413, 415, 429]
        },
    }
    config = SchemathesisConfig.from_dict({"checks": checks})
    return schemathesis.openapi.from_wsgi("/openapi.json", app, config=config)


OPEN_ENDED = "/events"
"""Streams of live jobs do not end by themselves."""


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_schemathesis_finds_no_gap(schema: schemathesis.BaseSchema, mode: GenerationMode) -> None:
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        if operation.path.endswith(OPEN_ENDED):
            continue

        @settings(max_examples=12, deadline=None, database=None,
                  suppress_health_check=list(HealthCheck))  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def examples(case: schemathesis.Case[Any]) -> None:
            case.call_and_validate(headers={"prefer": "respond-async"})

        try:
            examples()
        except Unsatisfiable:
            assert mode is GenerationMode.NEGATIVE, "there is nothing wrong to send"
