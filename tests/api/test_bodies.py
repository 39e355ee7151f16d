"""Bodies that are no body: malformed, doubled, too big, of another kind."""

from __future__ import annotations

import json
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from jobs.store import JobStore
from tests.api.conftest import MAX_BODY_BYTES

BOUNDARY = "multipart/form-data; boundary=xyz"


def post(client: FlaskClient, data: bytes, content_type: str | None) -> TestResponse:
    return client.post("/v1/videos", data=data, content_type=content_type)


def part(name: str, value: str, extra: str = "") -> bytes:
    return (
        f'--xyz\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n{value}\r\n'.encode()
    )


@pytest.mark.parametrize(
    ("data", "param", "word"),
    [
        (b"", "body", "malformed JSON"),
        (b"{", "body", "malformed JSON"),
        (b'{"prompt": "x",}', "body", "malformed JSON"),
        (b"prompt=x", "body", "malformed JSON"),
        (b'{"prompt": "\xff"}', "body", "malformed JSON"),
        (b'{"prompt": NaN}', "body", "NaN"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "body", "malformed JSON"),
        (b"[" * 50_000, "body", "nested too deeply"),
        (b'{"a":' * 10_000, "body", "nested too deeply"),
        (b"null", "body", "must be a JSON object"),
        (b'["x"]', "body", "must be a JSON object"),
        (b'"prompt"', "body", "must be a JSON object"),
        (b'{"prompt": "x", "prompt": "y"}', "prompt", "once"),
        (b'{"prompt": "\\ud800"}', "prompt", "surrogates"),
        (b'{"\\ud800<b>": 1}', "\\ud800<b>", "surrogates"),
        (b'{"prompt": "x", "metadata": {"a": "\\ud800"}}', "metadata.a", "surrogates"),
        (b'{"prompt": "x", "metadata": {"a": 1, "a": 2}}', "metadata.a", "once"),
        (b'{"prompt": "x", "webhook_events": ["\\ud800"]}', "webhook_events.0", "surrogates"),
        (b'{"prompt": "x", "width": 1e400}', "width", "finite"),
        (b'{"prompt": "x", "\\u0000": 1}', "\0", "unknown"),
    ],
)
def test_bad_json_is_400(
    served: FlaskClient, store: JobStore, data: bytes, param: str, word: str
) -> None:
    answer = post(served, data, "application/json")
    assert answer.status_code == 400
    error = json.loads(answer.data)["error"]
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert word in error["message"]
    assert store.queued() == 0


@pytest.mark.parametrize(
    ("data", "content_type", "refused"),
    [
        (part("prompt", "x") + b"--xyz--", "multipart/form-data", ("body", "boundary")),
        (
            part("prompt", "x") + b"--xyz--",
            "multipart/form-data; boundary=é",
            ("body", "malformed"),
        ),
        (b"no parts at all", BOUNDARY, ("body", "malformed multipart")),
        (part("prompt", "x"), BOUNDARY, ("body", "malformed multipart")),
        (part("prompt", "x")[:-10], BOUNDARY, ("body", "malformed multipart")),
        (b'{"prompt": "x"}', BOUNDARY, ("body", "malformed multipart")),
        (part("prompt", "x") + part("prompt", "y") + b"--xyz--", BOUNDARY, ("prompt", "2 times")),
        (
            part("prompt", "x") + part("prompt", "y", '; filename="f"') + b"--xyz--",
            BOUNDARY,
            ("prompt", "once"),
        ),
        (part("metadata[a]", "1") * 2 + b"--xyz--", BOUNDARY, ("metadata[a]", "2 times")),
        (
            part("metadata", "{}") + part("metadata[a]", "1") + b"--xyz--",
            BOUNDARY,
            ("metadata[a]", "two ways"),
        ),
        (
            part("metadata[a][b]", "1") + part("metadata[a]", "1") + b"--xyz--",
            BOUNDARY,
            ("metadata[a]", "two ways"),
        ),
        (part("prompt[a]", "x") + b"--xyz--", BOUNDARY, ("prompt", "valid string")),
        (part("prompt", "x") + part("wall[a]", "x") + b"--xyz--", BOUNDARY, ("wall", "unknown")),
        (part("prompt", "x") + part("prompt[", "x") + b"--xyz--", BOUNDARY, ("prompt[", "unknown")),
        (
            part("prompt", "x") + part("metadata[a[b]]", "x") + b"--xyz--",
            BOUNDARY,
            ("metadata", "no name with brackets in a form: send metadata as JSON text"),
        ),
        (
            part("prompt", "x") + part("a[b][c][d][e]", "x") + b"--xyz--",
            BOUNDARY,
            ("a[b][c][d][e]", "unknown"),
        ),
        (
            part("prompt", "x") + part("input_reference", "y", '; filename="f"') + b"--xyz--",
            BOUNDARY,
            ("input_reference", "may be given at most 0 times with tiny, got 1"),
        ),
        (
            part("prompt", "x").replace(b"x\r", b"\xff\r") + b"--xyz--",
            BOUNDARY,
            ("prompt", "UTF-8"),
        ),
    ],
)
def test_bad_multipart_is_400(
    served: FlaskClient, store: JobStore, data: bytes, content_type: str, refused: tuple[str, str]
) -> None:
    answer = post(served, data, content_type)
    assert answer.status_code == 400, answer.data
    param, word = refused
    assert answer.get_json()["error"]["param"] == param
    assert word in answer.get_json()["error"]["message"]
    assert store.queued() == 0


def test_a_form_spells_objects_and_lists_as_openais_sdk_does(
    served: FlaskClient, store: JobStore
) -> None:
    fields = {
        "prompt": "x",
        "metadata[a]": "1",
        "metadata[b c]": "2",
        "extra_body[seed]": "7",
        "webhook_events[]": "video.completed",
    }
    data = b"".join(part(name, value) for name, value in fields.items()) + b"--xyz--"
    answer = post(served, data, BOUNDARY)
    assert (
        answer.get_json()["error"]["message"] == "webhook_events needs a webhook_url to be sent to"
    )
    del fields["webhook_events[]"]
    data = b"".join(part(name, value) for name, value in fields.items()) + b"--xyz--"
    job = post(served, data, BOUNDARY).get_json()
    assert (job["metadata"], job["seed"]) == ({"a": "1", "b c": "2"}, 7)


def test_a_field_of_a_query_is_given_once_too(served: FlaskClient) -> None:
    for path in ("/v1/videos?limit=1&limit=2", "/v1/model_info?model=tiny&model=tiny"):
        answer = served.get(path)
        assert answer.status_code == 400
        assert answer.get_json()["error"]["param"] in ("limit", "model")
        assert "2 times" in answer.get_json()["error"]["message"]


@pytest.mark.parametrize(
    "content_type", [None, "", "text/plain", "application/x-www-form-urlencoded", "image/png", "?"]
)
def test_another_kind_of_body_is_415_and_names_those_that_are_taken(
    served: FlaskClient, content_type: str | None
) -> None:
    answer = post(served, b'{"prompt": "x"}', content_type)
    assert answer.status_code == 415
    assert "application/json or multipart/form-data" in answer.get_json()["error"]["message"]


def test_json_with_a_charset_or_a_suffix_is_json(served: FlaskClient) -> None:
    for kind in ("application/json; charset=utf-8", "application/vnd.x+json"):
        assert post(served, b'{"prompt": "x"}', kind).status_code == 200


@pytest.mark.parametrize("content_type", ["application/json", BOUNDARY])
def test_a_body_over_the_limit_is_413_in_openais_shape(
    served: FlaskClient, content_type: str
) -> None:
    body = {"prompt": "x" * MAX_BODY_BYTES}
    data = json.dumps(body).encode()
    if content_type == BOUNDARY:
        data = part("prompt", body["prompt"]) + b"--xyz--"
    answer = post(served, data, content_type)
    assert answer.status_code == 413
    error: dict[str, Any] = answer.get_json()["error"]
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "request_entity_too_large"
    assert str(MAX_BODY_BYTES) in error["message"]
