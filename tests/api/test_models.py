"""/v1/models."""

from __future__ import annotations

import time

import pytest
from flask.testing import FlaskClient

from jobs.workers import Workers
from tests.api.worker import CARD, announce


def test_nothing_is_served_before_a_worker_speaks(client: FlaskClient) -> None:
    assert client.get("/v1/models").json == {"object": "list", "data": []}


def test_a_model_has_openais_fields_and_its_cards(served: FlaskClient, workers: Workers) -> None:
    announce(workers, id="worker-2")
    (model,) = served.get("/v1/models").get_json()["data"]
    assert (model["id"], model["object"], model["owned_by"]) == ("tiny", "model", "rushes")
    assert isinstance(model["created"], int)
    assert model["family"] == "wan"
    assert model["workloads"] == ["t2v", "t2i"]
    assert model["names"] == ["tiny"], "no path of the host"
    assert model["defaults"] == {
        "width": 128,
        "height": 128,
        "num_frames": 17,
        "fps": 8,
        "num_inference_steps": 20,
        "guidance_scale": 3.0,
    }
    assert model["limits"]["max_width"] == 256
    assert model["limits"]["size_multiple"] == 16
    assert model["live_gangs"] == 2
    told = set(model["defaults"]) | set(model["limits"]) | {"name", "family", "workloads"}
    assert told == set(type(CARD).model_fields), "every field of a card is told"


def test_model_info_tells_a_name_to_send_and_no_path_of_the_host(
    served: FlaskClient, workers: Workers
) -> None:
    announce(workers, id="b", model="second", names=("second", "twin", "org/second"), order=1)
    assert served.get("/v1/model_info").get_json()["model_path"] == "tiny"
    assert served.get("/v1/model_info?model=/models/tiny").get_json()["id"] == "tiny"
    twin = served.get("/v1/model_info?model=twin").get_json()
    assert (twin["id"], twin["model_path"]) == ("second", "org/second")
    assert served.get("/v1/model_info?model=nothing").status_code == 404


def test_a_model_is_retrieved_by_any_of_its_names(served: FlaskClient, workers: Workers) -> None:
    announce(workers, id="b", model="second", names=("second", "org/second"), order=1)
    listed = {each["id"]: each for each in served.get("/v1/models").get_json()["data"]}
    assert served.get("/v1/models/tiny").get_json() == listed["tiny"]
    assert served.get("/v1/models/org%2Fsecond").get_json() == listed["second"]
    missing = served.get("/v1/models/sora-2")
    error = missing.get_json()["error"]
    assert (missing.status_code, error["code"], error["param"]) == (404, "model_not_found", "model")


def test_created_is_when_a_model_was_first_announced(
    served: FlaskClient, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    created = served.get("/v1/models/tiny").get_json()["created"]
    assert created > 0
    later = time.time() + 60
    monkeypatch.setattr(time, "time", lambda: later)
    announce(workers)
    assert workers.find("tiny").seen_at == later
    assert served.get("/v1/models/tiny").get_json()["created"] == created


def test_a_loading_model_is_listed_without_limits(client: FlaskClient, workers: Workers) -> None:
    announce(workers, state="starting", card=None)
    (model,) = client.get("/v1/models").get_json()["data"]
    assert (model["id"], model["family"], model["live_gangs"]) == ("tiny", None, 0)
    assert model["limits"]["max_width"] is None


def test_the_default_model_comes_first(client: FlaskClient, workers: Workers) -> None:
    announce(workers, id="b", model="second", names=("second",), order=1)
    announce(workers, id="a", model="zeta", names=("zeta",), order=0)
    ids = [model["id"] for model in client.get("/v1/models").get_json()["data"]]
    assert ids == ["zeta", "second"]
