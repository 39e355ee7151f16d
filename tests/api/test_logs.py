"""Lines of the API name the job that they are about, and whose request it was."""

from __future__ import annotations

import pytest
import structlog
from flask.testing import FlaskClient

from jobs.errors import StorageUnavailable
from jobs.store import JobStore
from tests.api.test_videos import create


def test_every_line_about_a_job_names_it(
    served: FlaskClient, store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise StorageUnavailable("away")

    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as lines:
        job = create(served)
        monkeypatch.setattr(JobStore, "cancel", fail)
        answer = served.post(f"/v1/videos/{job['id']}/cancel")
    assert answer.status_code == 503
    assert [(line["event"], line["job"]) for line in lines] == [
        ("job accepted", job["id"]),
        ("storage_unavailable", job["id"]),
    ]
    assert [line["request_id"] for line in lines] == [
        store.get(job["id"]).request_id,
        answer.headers["x-request-id"],
    ]
