"""Schemathesis over /openapi.json: every phase and every check, on a live API with keys and a gang."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from pydantic import SecretStr
from schemathesis.checks import CHECKS
from schemathesis.config import SchemathesisConfig
from schemathesis.core.transport import Response
from schemathesis.engine import events, from_schema

from api.openapi import document
from jobs.admin import Admin
from jobs.artifacts import open_artifacts
from jobs.keys import Keys, Rights
from jobs.quotas import Limits, Quotas
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.serving import gang_at_work, serving
from tests.api.worker import CARD, announce
from tests.fixtures.pictures import data_url, picture
from tests.fixtures.waiting import wait_for
from tests.jobs.webhooks.making import SECRET

ACCEPTED = ["2xx", 400, 404, 409, 429, 504]
"""What fits the schema may be too large for this model (400), another owner's (404), of a job in another
state (409) or beyond the quota that the run has just set (429); and an image is late (504) while the run
has the only worker drained."""

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    changes = {"webhook_secret": SecretStr(SECRET), "image_wait_s": 10, "max_wait_s": 1}
    return settings.model_copy(update=changes)


@pytest.fixture
def url(settings: Settings, store: JobStore, workers: Workers, tmp_path: Path) -> Iterator[str]:
    """Where the API answers."""
    files = {"video": tmp_path / "clip.mp4", "image": tmp_path / "image.png"}
    for file in files.values():
        file.write_bytes(b"x" * 1000)
    changes = {"workloads": (*CARD.workloads, "i2i", "i2v"), "max_images": 1}
    announce(workers, card=CARD.model_copy(update=changes))
    artifacts = open_artifacts(settings)
    with serving(settings, tmp_path / "log") as server, gang_at_work(store, artifacts, files):
        yield server.url


@pytest.fixture
def keys(store: JobStore) -> dict[str, str]:
    rights = Rights(scope="admin", max_priority=9)
    return {name: Keys(store).create(name, rights)[1] for name in ("ann", "bob")}


@pytest.fixture
def schema(url: str, keys: dict[str, str], tmp_path: Path) -> schemathesis.BaseSchema:
    known = tmp_path / "keys.json"  # in the form of https://github.com/WebFuzzing/Commons
    users = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {text}"}]}
        for name, text in keys.items()
    ]
    known.write_text(json.dumps({"auth": users}))
    config = SchemathesisConfig.from_dict(
        {
            "base-url": url,
            "checks": {
                "positive_data_acceptance": {"expected-statuses": ACCEPTED},
                "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", 504]},
            },
            # Neither may see what the other has made.
            "auth": {"wfc": {"path": str(known), "peers": list(keys)}},
            "generation": {"max-examples": 3, "deterministic": True, "database": "none"},
            "continue-on-failure": True,
            "cache": {"enabled": False},  # no run begins with what an earlier one has seen
        }
    )
    # Now that there are keys, nobody gets in without one.
    strict = document() | {"security": [{"key": []}]}
    return schemathesis.openapi.from_dict(strict, config=config)


def test_schemathesis_finds_no_gap(schema: schemathesis.BaseSchema, store: JobStore) -> None:
    ran: set[str] = set()
    failures: set[str] = set()
    for event in from_schema(schema).execute():
        if isinstance(event, events.FatalError):
            raise event.exception
        if isinstance(event, events.NonFatalError):
            failures.add(f"{event.label}: {event.value!r}")
        if isinstance(event, events.ScenarioFinished):
            for result in (each for found in event.recorder.checks.values() for each in found):
                ran.add(result.name)
                if result.failure_info is not None:
                    failure = result.failure_info.failure
                    failures.add(
                        f"{failure.operation}: {failure}\n{result.failure_info.code_sample}"
                    )
            _as_before(store)
    assert not failures, "\n\n".join(sorted(failures))
    assert ran == set(CHECKS.get_all_names()), "every check that it ships"


def _as_before(store: JobStore) -> None:
    """Undo what a run over the admin's routes has done to its own keys and worker."""
    Admin(store).undrain("worker-1")
    for key in Keys(store).list():
        Quotas(store).limit(key.id, Limits(max_running=None, max_queued=None, daily_device_s=None))


@pytest.mark.parametrize("kind", ["video", "image"])
def test_answers_about_real_jobs_are_as_documented(
    schema: schemathesis.BaseSchema, store: JobStore, keys: dict[str, str], kind: str
) -> None:
    """Drawn ids seldom meet a job that has ended, let alone one that failed."""
    auth = {"Authorization": f"Bearer {keys['ann']}"}

    def ask(
        method: str, route: str, status: int = 200, *, body: Any = None, **headers: str
    ) -> Response:
        path, _, rest = route.partition("?")
        query = dict(pair.split("=") for pair in rest.split("&") if pair)
        case = schema[path][method].Case(
            path_parameters=ids, query=query, body=body, media_type="application/json"
        )
        answer = case.call_and_validate(
            headers=auth | {name.replace("_", "-"): value for name, value in headers.items()}
        )
        assert answer.status_code == status, (route, answer.text)
        return answer

    def made(prompt: str) -> str:
        body = {"prompt": prompt, "webhook_url": "https://example.com/hook"}
        create = "/v1/videos" if kind == "video" else "/v1/images/generations"
        job_id: str = ask("POST", create, 202, body=body, prefer="respond-async").json()["id"]
        wait_for(lambda: store.get(job_id).state.terminal, "it has ended")
        return job_id

    ids: dict[str, str] = {}
    job = f"/v1/{kind}s/{{job_id}}"
    ids["job_id"] = made("x")
    assert ask("GET", job).json()["status"] == "completed"
    content = f"{job}/content"
    etag = ask("GET", f"{content}?variant={kind}").headers["etag"][0]
    ask("GET", content, 206, range="bytes=0-9")
    ask("GET", content, 304, if_none_match=etag)
    ask("GET", content, 412, if_match='"other"')
    ask("GET", content, 416, range="bytes=1000-")
    ask("GET", f"{content}?variant=thumbnail", 404)
    ask("GET", f"{job}/events")
    ask("POST", f"{job}/cancel", 409)
    ids["webhook_id"] = ask("GET", f"{job}/deliveries").json()["data"][0]["webhook_id"]
    ask("POST", f"{job}/deliveries/{{webhook_id}}/replay")
    ask("GET", f"/v1/{kind}s?status=completed")
    if kind == "video":
        ask("POST", f"{job}/remix", body={"prompt": "y"})
    else:
        image = data_url(picture())
        ask("POST", "/v1/images/generations", body={"prompt": "x"})
        ask(
            "POST",
            "/v1/images/edits",
            body={"prompt": "x", "image": image, "response_format": "b64_json"},
        )
    ask("DELETE", job)
    ask("GET", job, 404)
    ids["job_id"] = made("fail")
    assert ask("GET", job).json()["status"] == "failed"
    ask("GET", f"{job}/content", 404)
    ask("POST", f"{job}/retry", body={})
