"""Keys at the door, whose jobs one sees, rates, headers."""

from __future__ import annotations

from typing import Any

import pytest
from flask.testing import FlaskClient
from structlog.testing import capture_logs

from api.app import create_app
from api.openapi import OPERATIONS
from jobs.artifacts import ArtifactStore
from jobs.errors import SettingsError
from jobs.exposure import check_guarded
from jobs.keys import Keys, Rights
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.worker import announce


class Door:
    """An API with settings of its own, and keys to it."""

    def __init__(self, settings: Settings, store: JobStore, artifacts: ArtifactStore) -> None:
        workers = Workers(store)
        announce(workers)
        self.client: FlaskClient = create_app(settings, store, workers, artifacts).test_client()
        self.keys = Keys(store)

    def key(self, **rights: Any) -> dict[str, str]:
        _, text = self.keys.create("somebody", Rights(**rights))
        return {"authorization": f"Bearer {text}"}

    def create(self, headers: dict[str, str], **body: Any) -> Any:
        return self.client.post("/v1/videos", json={"prompt": "x"} | body, headers=headers)


@pytest.fixture
def door(settings: Settings, store: JobStore, artifacts: ArtifactStore) -> Door:
    return Door(settings, store, artifacts)


def test_without_keys_any_or_none_opens_on_loopback(door: Door) -> None:
    assert door.create({}).status_code == 200
    assert door.create({"authorization": "Bearer EMPTY"}).status_code == 200
    assert door.client.get("/health").get_json()["open"] is False


def test_without_keys_a_page_of_another_origin_makes_no_jobs(
    door: Door, settings: Settings, store: JobStore, artifacts: ArtifactStore
) -> None:
    form = {"data": {"prompt": "x"}, "content_type": "multipart/form-data"}
    stranger = {"origin": "https://elsewhere.example"}
    refused = door.client.post("/v1/videos", **form, headers=stranger)
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (403, "forbidden")
    assert door.client.post("/v1/videos", **form, headers={"origin": "null"}).status_code == 403
    ours = {"origin": "http://localhost"}
    assert door.client.post("/v1/videos", **form, headers=ours).status_code == 200
    named = settings.model_copy(update={"cors_origins": "https://elsewhere.example"})
    assert Door(named, store, artifacts).create(stranger).status_code == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:30000", "[evil", "127.0.0.1.nip.io"]
)
def test_without_keys_no_other_name_leads_here(door: Door, host: str) -> None:
    rebound = {"host": host, "origin": f"http://{host}"}
    for method, path in (("POST", "/v1/videos"), ("GET", "/v1/videos"), ("GET", "/metrics")):
        answer = door.client.open(path, method=method, headers=rebound)
        assert answer.status_code == 403, path
        assert answer.get_json()["error"]["code"] == "forbidden"


def test_with_a_key_any_name_leads_here(door: Door) -> None:
    rebound = door.key() | {"host": "gpu-7.example"}
    assert door.client.get("/v1/videos", headers=rebound).status_code == 200


def test_without_keys_loopback_and_the_public_name_lead_here(
    settings: Settings, store: JobStore, artifacts: ArtifactStore
) -> None:
    named = settings.model_copy(update={"public_url": "https://Video.example:8443/here"})
    client = Door(named, store, artifacts).client
    for host in ("localhost:1", "127.0.0.1", "127.0.0.1:30000", "[::1]:30000", "video.example"):
        assert client.get("/v1/videos", headers={"host": host}).status_code == 200, host
    told = settings.model_copy(update={"open": True})
    client = Door(told, store, artifacts).client
    assert client.get("/v1/videos", headers={"host": "gpu-7"}).status_code == 200


def test_without_keys_nobody_is_served_beyond_loopback_unless_told(
    settings: Settings, store: JobStore, artifacts: ArtifactStore
) -> None:
    reachable = settings.model_copy(update={"host": "0.0.0.0"})
    with pytest.raises(SettingsError, match=r"rushes keys create.*RUSHES_OPEN=1"):
        check_guarded(reachable, Keys(store))
    shut = Door(reachable, store, artifacts)
    assert shut.create({}).status_code == 401
    told = reachable.model_copy(update={"open": True})
    check_guarded(told, Keys(store))
    wide = Door(told, store, artifacts)
    assert wide.create({}).status_code == 200
    assert wide.client.get("/health").get_json()["open"] is True
    Keys(store).create("ann", Rights())
    check_guarded(reachable, Keys(store))


def test_with_keys_only_a_key_opens(door: Door) -> None:
    good = door.key()
    assert door.create(good).status_code == 200
    text = good["authorization"].removeprefix("Bearer ")
    bad = ("", "Bearer EMPTY", f"Basic {text}", f"Bearer {text}x", text, "Bearer")
    for header in bad:
        with capture_logs() as lines:
            answer = door.create({"authorization": header})
        assert answer.status_code == 401, header
        assert answer.headers["www-authenticate"] == "Bearer"
        assert answer.get_json()["error"]["code"] == "invalid_api_key"
        assert text not in str(lines)
        assert text not in answer.text
    assert door.client.get("/health").status_code == 200, "watchers need no key"
    assert door.client.get("/v1/models").status_code == 401


def test_a_job_is_its_owners_alone(door: Door) -> None:
    ann, bob = door.key(), door.key()
    job_id = door.create(ann).get_json()["id"]
    path = f"/v1/videos/{job_id}"
    for method, suffix in (
        ("GET", ""), ("DELETE", ""), ("GET", "/content"), ("POST", "/cancel"), ("GET", "/events"),
        ("POST", "/retry"), ("POST", "/remix"),
    ):  # fmt: skip
        body = {"prompt": "y"} if suffix == "/remix" else None
        answer = door.client.open(path + suffix, method=method, headers=bob, json=body)
        assert answer.status_code == 404, suffix
    assert door.client.get("/v1/videos", headers=bob).get_json()["data"] == []
    assert door.client.get(path, headers=ann).status_code == 200


def test_a_priority_is_bounded_by_the_key(door: Door) -> None:
    assert door.create(door.key(), priority=1).get_json()["error"]["param"] == "priority"
    assert door.create(door.key(max_priority=5), priority=5).get_json()["priority"] == 5


def test_a_rate_is_429_with_what_is_left(door: Door) -> None:
    ann, bob = door.key(rate="2/minute"), door.key(rate="2/minute")
    answers = [door.create(ann) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["ratelimit-policy"] == '"jobs";q=2;w=60'
    assert answers[0].headers["ratelimit"].startswith('"jobs";r=1;t=')
    assert answers[2].get_json()["error"]["code"] == "rate_limit_exceeded"
    assert 0 < int(answers[2].headers["retry-after"]) <= 60
    assert door.create(bob).status_code == 200
    assert "ratelimit" not in door.client.get("/v1/videos", headers=ann).headers


def test_a_repeated_idempotency_key_counts_against_no_rate(door: Door) -> None:
    ann = door.key(rate="1/hour") | {"idempotency-key": "once"}
    first = door.create(ann)
    again = door.create(ann)
    assert (again.status_code, again.get_json()["id"]) == (200, first.get_json()["id"])
    other = door.create(ann, seed=1)
    assert (other.status_code, other.get_json()["error"]["code"]) == (409, "idempotency_key_reused")
    door.client.delete(f"/v1/videos/{first.get_json()['id']}", headers=ann)
    assert door.create(ann).status_code == 409, "its job is deleted"
    assert door.create(ann | {"idempotency-key": "twice"}).status_code == 429


def test_a_rate_for_everybody_counts_by_address(
    settings: Settings, store: JobStore, artifacts: ArtifactStore
) -> None:
    door = Door(settings.model_copy(update={"rate": "1/hour"}), store, artifacts)
    assert [door.create({}).status_code for _ in range(2)] == [200, 429]


def test_quotas_of_a_key_are_429(door: Door) -> None:
    queued = door.key(max_queued=1)
    assert [door.create(queued).status_code for _ in range(2)] == [200, 429]
    assert door.create(queued).get_json()["error"]["code"] == "queue_full"


def test_a_used_up_budget_is_429_that_no_sdk_retries(door: Door, store: JobStore) -> None:
    store.redis.set(store.key("costs", "tiny"), "[[100, 1000, 1000]]")
    answer = door.create(door.key(daily_device_s=0.001))
    assert (answer.status_code, answer.headers["x-should-retry"]) == (429, "false")
    assert answer.get_json()["error"]["code"] == "insufficient_quota"


def test_a_setting_that_is_no_rate_stops_the_start() -> None:
    with pytest.raises(ValueError, match="60/minute"):
        Settings(rate="often")


@pytest.mark.parametrize("path", sorted({each.path for each in OPERATIONS}))
def test_a_preflight_needs_no_key_on_any_route(door: Door, path: str) -> None:
    door.key()
    answer = door.client.options(path.replace("{", "").replace("}", ""))
    assert (answer.status_code, answer.data) == (200, b"")
    assert "OPTIONS" in answer.headers["allow"]


# Headers -------------------------------------------------------------------------------------------


def test_every_answer_has_security_headers_and_cors_is_off(door: Door) -> None:
    for path in ("/v1/videos", "/nothing", "/livez"):
        headers = door.client.get(path, headers={"origin": "https://evil.example"}).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["x-frame-options"] == "DENY"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert "access-control-allow-origin" not in headers


def test_cors_lets_in_whom_it_names(
    settings: Settings, store: JobStore, artifacts: ArtifactStore
) -> None:
    named = settings.model_copy(update={"cors_origins": "https://a.example, https://b.example"})
    door = Door(named, store, artifacts)
    door.key()
    asked = {"origin": "https://b.example", "access-control-request-method": "POST"}
    preflight = door.client.options("/v1/videos", headers=asked)
    assert preflight.status_code == 200, "a preflight brings no key"
    assert preflight.headers["access-control-allow-origin"] == "https://b.example"
    assert "Authorization" in preflight.headers["access-control-allow-headers"]
    assert "Origin" in preflight.headers["vary"]
    assert "PATCH" in preflight.headers["access-control-allow-methods"]
    exposed = preflight.headers["access-control-expose-headers"].split(", ")
    assert {"Location", "ETag", "Content-Range", "RateLimit-Policy"} <= set(exposed)
    other = door.client.get("/livez", headers={"origin": "https://c.example"})
    assert "access-control-allow-origin" not in other.headers
