"""The admin routes: over all owners, and for admins only."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.openapi import OPERATIONS
from jobs.keys import Keys, Rights
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.worker import announce, claim

ROUTES = [each for each in OPERATIONS if each.path.startswith("/v1/admin/")]


def test_only_admins_get_in(app: Flask, store: JobStore) -> None:
    _, text = Keys(store).create("ann", Rights())
    client = app.test_client()
    for route in ROUTES:
        path = route.path.replace("{", "").replace("}", "")
        headers = {"authorization": f"Bearer {text}"}
        assert client.open(path, method=route.method, headers=headers).status_code == 403


def test_a_worker_is_drained_and_undrained(served: FlaskClient) -> None:
    (worker,) = served.get("/v1/admin/workers").get_json()["data"]
    assert (worker["id"], worker["state"], worker["devices"]) == ("worker-1", "ready", 2)

    for given in (1, "yes", None):
        answer = served.post("/v1/admin/workers/worker-1/drain", json={"hand_back": given})
        assert answer.get_json()["error"]["param"] == "hand_back"
        assert "must be true or false" in answer.get_json()["error"]["message"]
    told = served.post("/v1/admin/workers/worker-1/drain", json={"hand_back": True})
    assert (told.status_code, told.get_json()["drained"]) == (200, True)
    health = served.get("/health")
    assert (health.status_code, health.get_json()["status"]) == (503, "draining")
    assert served.post("/v1/admin/workers/worker-1/undrain").get_json()["state"] == "ready"
    assert served.get("/health").get_json()["status"] == "ready"
    missing = served.post("/v1/admin/workers/none/drain")
    assert (missing.status_code, missing.get_json()["error"]["code"]) == (404, "not_found")
    wrong = served.post("/v1/admin/workers/worker-1/drain", json={"handback": True})
    assert (wrong.status_code, wrong.get_json()["error"]["param"]) == (400, "handback")


@pytest.mark.parametrize("act", ["cancel", "requeue"])
def test_anybodys_job_is_cancelled_or_requeued(
    app: Flask, store: JobStore, workers: Workers, act: str
) -> None:
    announce(workers)
    keys = Keys(store)
    _, users = keys.create("ann", Rights())
    _, admins = keys.create("root", Rights(scope="admin"))
    client = app.test_client()
    asked = {"authorization": f"Bearer {users}"}
    job = client.post("/v1/videos", json={"prompt": "a fox"}, headers=asked).get_json()
    claim(store, job["id"])
    headers = {"authorization": f"Bearer {admins}"}

    (running,) = client.get("/v1/admin/queue", headers=headers).get_json()["running"]
    assert running["id"] == job["id"]
    assert client.get(f"/v1/videos/{job['id']}", headers=headers).status_code == 404
    path = f"/v1/admin/jobs/{job['id']}/{act}"
    status = {"cancel": "cancelled", "requeue": "queued"}[act]
    assert client.post(path, headers=headers).get_json()["status"] == status
    again = client.post(path, headers=headers)
    assert again.status_code == {"cancel": 200, "requeue": 409}[act]


def test_quotas_are_shown_and_set(app: Flask, store: JobStore) -> None:
    keys = Keys(store)
    key, _ = keys.create("ann", Rights(max_queued=3))
    _, admins = keys.create("root", Rights(scope="admin"))
    client, headers = app.test_client(), {"authorization": f"Bearer {admins}"}

    path = f"/v1/admin/quotas/{key.id}"
    body = {"max_running": 2, "max_queued": None}
    changed = client.patch(path, json=body, headers=headers).get_json()
    assert (changed["max_running"], changed["max_queued"]) == (2, None)
    assert client.get(path, headers=headers).get_json() == changed
    listed = client.get("/v1/admin/quotas", headers=headers).get_json()["data"]
    assert [each["name"] for each in listed] == ["ann", "root"]
    assert client.patch(path, json={"max_running": 0}, headers=headers).status_code == 400
