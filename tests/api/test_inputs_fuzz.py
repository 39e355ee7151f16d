"""Whatever comes as a form with files or as JSON with data URLs: a job, or 4xx in OpenAI's shape."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from jobs.artifacts import ArtifactStore
from jobs.images import check_image
from jobs.inputs import input_key
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.worker import CARD, announce
from tests.fixtures.pictures import noise, picture

MAX_PIXELS = 4096
ASYNC = {"prefer": "respond-async"}
HUGE = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\xff\xff\xff\xff\xff\xff\xff\xff\x08\x02\0\0\0"
WHOLE = [picture("PNG"), picture("JPEG"), picture("WEBP"), picture("GIF"), noise(1)[:3000]]

fuzzed = settings(
    max_examples=100, deadline=None, database=None, suppress_health_check=list(HealthCheck)
)


@st.composite
def images(draw: st.DrawFn) -> bytes:
    """Whole, cut off, damaged, huge, of another kind, no image, or nothing at all."""
    data = draw(st.sampled_from([*WHOLE, HUGE, b"", b"<svg/>", b"teal", b"%PDF-1.7"]))
    how = draw(st.sampled_from(["whole", "cut", "damaged"]))
    if how == "whole" or not data:
        return data
    at = draw(st.integers(0, min(len(data), 64)))
    if how == "cut":
        return data[:at]
    damage = draw(st.binary(min_size=1, max_size=8))
    return data[:at] + damage + data[at + len(damage) :]


NAMES = st.sampled_from(
    ["image", "image[]", "image[image_url]", "image[a][]", "images", "metadata[a]", "input_reference", "input_reference[]",
     "mask", "prompt", "n", "seed", "size", "extra_body", "", "x" * 300, "wände", "image\0"]
)  # fmt: skip
FILE_NAMES = st.none() | st.sampled_from(
    ["a.png", "", "../../etc/passwd", "a b;c.png", "ü.png", "\0", "x" * 5000, '\\"', "a\tb"]
)
TYPES = st.sampled_from(["image/png", "image/jpeg", "text/html", "", "nonsense", "multipart/mixed"])


@st.composite
def parts(draw: st.DrawFn) -> bytes:
    name, file_name = draw(NAMES), draw(FILE_NAMES)
    head = f'Content-Disposition: form-data; name="{name}"'
    if file_name is not None:
        head += f'; filename="{file_name}"\r\nContent-Type: {draw(TYPES)}'
    data = draw(images() | st.sampled_from([b"a wall", b"1", b"\xff", b"{}", b"[" * 500]))
    return head.encode() + b"\r\n\r\n" + data + b"\r\n"


def prompt() -> bytes:
    return b'Content-Disposition: form-data; name="prompt"\r\n\r\na wall\r\n'


def check(answer: TestResponse, store: JobStore, artifacts: ArtifactStore) -> None:
    assert answer.status_code in (200, 202) or 400 <= answer.status_code < 500, answer.data
    body: dict[str, Any] = answer.get_json()
    if answer.status_code >= 400:
        assert body.keys() == {"error"}
        assert body["error"].keys() == {"message", "type", "param", "code"}
        assert body["error"]["type"] == "invalid_request_error"
        assert len(body["error"]["message"]) < 2000
        return
    job = store.get(body["id"])
    for name in job.request.images:
        stored = b"".join(artifacts.read(input_key(job.id, name)))
        check_image(stored, "image", CARD.model_copy(update={"max_image_pixels": MAX_PIXELS}))


def announced(workers: Workers) -> None:
    workloads = ("t2v", "i2v", "t2i", "i2i")
    changes = {"workloads": workloads, "max_images": 2, "max_image_pixels": MAX_PIXELS}
    announce(workers, card=CARD.model_copy(update=changes))


def test_forms(
    client: FlaskClient, store: JobStore, workers: Workers, artifacts: ArtifactStore
) -> None:
    announced(workers)

    @fuzzed
    @given(
        st.sampled_from(["/v1/videos", "/v1/images/edits"]),
        st.lists(parts(), max_size=5),
        st.sampled_from([b"--x--\r\n", b"--x--", b"", b"--x"]),
        st.integers(0, 20),
    )
    def post(path: str, sent: list[bytes], end: bytes, cut: int) -> None:
        body = b"".join(b"--x\r\n" + part for part in [prompt(), *sent]) + end
        if cut > 17:
            body = body[: len(body) * (cut - 17) // 4]
        kind = "multipart/form-data; boundary=x"
        check(client.post(path, data=body, content_type=kind, headers=ASYNC), store, artifacts)

    post()


def test_json(
    client: FlaskClient, store: JobStore, workers: Workers, artifacts: ArtifactStore
) -> None:
    announced(workers)

    def spelled(data: bytes, head: str) -> str:
        return head + base64.b64encode(data).decode()

    urls = st.builds(
        spelled,
        images(),
        st.sampled_from(
            ["data:image/png;base64,", "DATA:;BASE64,", "data:text/html,", "data:", "data:x;base64"]
        ),
    ) | st.sampled_from(["https://example.com/a.png", "http://[", "file:///etc/passwd", "", "é"])
    values = st.recursive(
        urls | st.none() | st.booleans() | st.integers() | st.text(max_size=20),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(["image_url", "file_id", "url"]), inner, max_size=2)
        ),
        max_leaves=4,
    )

    @fuzzed
    @given(
        st.sampled_from([("/v1/videos", "input_reference"), ("/v1/images/edits", "image")]),
        values,
        st.booleans(),
    )
    def post(route: tuple[str, str], value: object, extra: bool) -> None:
        path, name = route
        given = {"extra_body": {name: value}} if extra else {name: value}
        body = re.sub(r"\\ud[89a-f]..", "", json.dumps({"prompt": "a wall"} | given))
        answer = client.post(path, data=body, content_type="application/json", headers=ASYNC)
        check(answer, store, artifacts)

    post()


def test_many_parts_are_too_many(client: FlaskClient, workers: Workers) -> None:
    announced(workers)
    body = (b"--x\r\n" + prompt()) * 1001 + b"--x--"
    answer = client.post("/v1/videos", data=body, content_type="multipart/form-data; boundary=x")
    assert answer.status_code == 413
    assert answer.get_json()["error"]["code"] == "request_entity_too_large"
