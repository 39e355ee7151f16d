"""A finished job's file: from disk with ranges, from S3 by redirect or stream."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
from flask.testing import FlaskClient

from api.objects import JobObject
from jobs.artifacts import ArtifactStore
from jobs.record import Artifact, JobError, Usage
from jobs.store import JobStore
from tests.api.worker import claim, finish

CONTENT = bytes(range(256)) * 3000  # several chunks
S3App = Callable[..., tuple[FlaskClient, JobStore, ArtifactStore]]


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(CONTENT)
    return path


def create(client: FlaskClient) -> str:
    job_id: str = client.post("/v1/videos", json={"prompt": "x"}).get_json()["id"]
    return job_id


@pytest.fixture
def path(served: FlaskClient, store: JobStore, artifacts: ArtifactStore, clip: Path) -> str:
    """The content of a completed job on disk."""
    job_id = create(served)
    finish(store, artifacts, job_id, clip)
    return f"/v1/videos/{job_id}/content"


def test_a_completed_job_tells_where_its_content_is(
    served: FlaskClient, store: JobStore, artifacts: ArtifactStore, clip: Path
) -> None:
    job_id = create(served)
    finish(store, artifacts, job_id, clip)
    job = served.get(f"/v1/videos/{job_id}").get_json()
    assert (job["status"], job["progress"]) == ("completed", 100)
    assert served.get(job["urls"]["content"]).data == CONTENT


def test_the_whole_file_comes_with_its_headers(served: FlaskClient, path: str) -> None:
    answer = served.get(path)
    job_id = path.split("/")[3]
    assert (answer.status_code, answer.data) == (200, CONTENT)
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-length"] == str(len(CONTENT))
    assert answer.headers["content-disposition"] == f'attachment; filename="{job_id}.mp4"'
    assert answer.headers["accept-ranges"] == "bytes"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["etag"].startswith('"')


def test_head_has_the_headers_and_no_body(served: FlaskClient, path: str) -> None:
    whole, head = served.get(path, buffered=True), served.head(path)
    assert (head.status_code, head.data) == (200, b"")
    for name in ("etag", "content-length", "content-type", "accept-ranges"):
        assert head.headers[name] == whole.headers[name]


SIZE = len(CONTENT)


@pytest.mark.parametrize(
    ("given", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-", 0, SIZE),
        ("bytes=10-19", 10, 20),
        ("bytes=300000-599999", 300_000, 600_000),
        ("bytes=-5", SIZE - 5, SIZE),
        (f"bytes=-{SIZE + 1}", 0, SIZE),
        (f"bytes={SIZE - 1}-{SIZE + 100}", SIZE - 1, SIZE),
    ],
)
def test_a_range_is_206(served: FlaskClient, path: str, given: str, start: int, stop: int) -> None:
    answer = served.get(path, headers={"range": given})
    assert answer.status_code == 206
    assert answer.data == CONTENT[start:stop]
    assert answer.headers["content-range"] == f"bytes {start}-{stop - 1}/{SIZE}"
    assert answer.headers["content-length"] == str(stop - start)


@pytest.mark.parametrize("given", ["bytes=0-1,4-5", "lines=1-2", "bytes", "bytes=x-y", "bytes=9-3"])
def test_a_range_that_we_do_not_serve_is_ignored(
    served: FlaskClient, path: str, given: str
) -> None:
    answer = served.get(path, headers={"range": given})
    assert (answer.status_code, answer.data) == (200, CONTENT)


def test_a_range_past_the_end_is_416_with_the_size(served: FlaskClient, path: str) -> None:
    answer = served.get(path, headers={"range": f"bytes={SIZE}-"})
    assert answer.status_code == 416
    assert answer.headers["content-range"] == f"bytes */{SIZE}"
    assert answer.get_json()["error"]["type"] == "invalid_request_error"


def test_a_known_etag_is_304_and_an_old_one_gets_the_whole(served: FlaskClient, path: str) -> None:
    etag = served.get(path, buffered=True).headers["etag"]
    same = served.get(path, headers={"if-none-match": etag})
    assert (same.status_code, same.data) == (304, b"")
    assert same.headers["etag"] == etag
    resumed = served.get(path, headers={"range": "bytes=5-9", "if-range": etag})
    assert (resumed.status_code, resumed.data) == (206, CONTENT[5:10])
    changed = served.get(path, headers={"range": "bytes=5-9", "if-range": '"other"'})
    assert (changed.status_code, changed.data) == (200, CONTENT)


OTHER, ETAG, WEAK = '"other"', "ETAG", "W/ETAG"
"""ETAG stands for the file's own."""


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("GET", {"if-match": OTHER}, 412),
        ("HEAD", {"if-match": OTHER}, 412),
        ("GET", {"if-match": OTHER, "range": "bytes=0-9"}, 412),
        ("GET", {"if-match": OTHER, "if-none-match": ETAG}, 412),
        ("GET", {"if-match": WEAK}, 412),
        ("GET", {"if-match": f"{OTHER}, {ETAG}"}, 200),
        ("GET", {"if-match": "*"}, 200),
        ("GET", {"if-match": ETAG, "range": "bytes=0-9"}, 206),
        ("GET", {"if-match": ETAG, "if-none-match": ETAG}, 304),
        ("GET", {"if-none-match": ETAG, "range": "bytes=0-9"}, 304),
        ("GET", {"if-none-match": WEAK}, 304),
        ("GET", {"if-none-match": "*"}, 304),
        ("HEAD", {"if-none-match": ETAG}, 304),
        ("GET", {"if-none-match": OTHER, "range": "bytes=0-9"}, 206),
        ("GET", {"if-none-match": OTHER, "range": f"bytes={SIZE}-"}, 416),
        ("HEAD", {"range": "bytes=0-9"}, 200),
        ("HEAD", {"range": f"bytes={SIZE}-"}, 200),
        ("GET", {"if-range": WEAK, "range": "bytes=0-9"}, 200),
        ("GET", {"if-range": "Wed, 21 Oct 2015 07:28:00 GMT", "range": "bytes=0-9"}, 200),
        ("GET", {"if-range": OTHER}, 200),
    ],
)
def test_conditions_are_weighed_in_the_order_of_rfc_9110(
    served: FlaskClient, path: str, method: str, headers: dict[str, str], status: int
) -> None:
    """And no answer promises bytes that do not follow: the next one would be read in their place."""
    etag = served.head(path).headers["etag"]
    sent = {name: value.replace("ETAG", etag) for name, value in headers.items()}
    answer = served.open(path, method=method, headers=sent)
    assert answer.status_code == status
    if status >= 400:
        assert answer.content_type == "application/json"
        assert "content-disposition" not in answer.headers
    if method == "HEAD" or status == 304:
        assert answer.data == b""
    else:
        assert answer.headers["content-length"] == str(len(answer.data))
    if status == 304:
        assert answer.headers["etag"] == etag
        assert "content-length" not in answer.headers
    assert ("content-range" in answer.headers) is (status in (206, 416))


def test_the_file_is_closed_whether_read_or_not(served: FlaskClient, path: str) -> None:
    def open_files() -> int:
        return sum(1 for _ in Path("/proc/self/fd").iterdir())

    served.get(path, buffered=True)
    before = open_files()
    for headers in ({}, {"range": "bytes=5-"}):
        answer = served.get(path, headers=headers)
        assert open_files() == before + 1
        answer.close()
        assert open_files() == before


def test_an_image_is_the_content_of_an_image_job(
    served: FlaskClient, store: JobStore, artifacts: ArtifactStore, clip: Path
) -> None:
    job_id = create(served)
    finish(store, artifacts, job_id, clip, kind="image")
    (artifact,) = served.get(f"/v1/videos/{job_id}").get_json()["artifacts"]
    assert artifact["url"].endswith("?variant=image&index=0")
    for url in (artifact["url"], f"/v1/videos/{job_id}/content?variant=video"):
        answer = served.get(url, buffered=True)
        assert answer.headers["content-type"] == "image/png"
        assert answer.headers["content-disposition"].endswith('.png"')


def test_variants(served: FlaskClient, path: str) -> None:
    assert served.get(f"{path}?variant=video", buffered=True).status_code == 200
    for variant in ("image", "thumbnail", "spritesheet"):
        missing = served.get(f"{path}?variant={variant}")
        assert missing.status_code == 404
        assert variant in missing.get_json()["error"]["message"]
    unknown = served.get(f"{path}?variant=gif")
    assert unknown.status_code == 400
    assert unknown.get_json()["error"]["param"] == "variant"
    assert "'gif'" in unknown.get_json()["error"]["message"]
    assert "thumbnail" in unknown.get_json()["error"]["message"]


def test_content_before_its_time_is_a_conflict_and_after_failure_not_found(
    served: FlaskClient, store: JobStore
) -> None:
    job_id = create(served)
    queued = served.get(f"/v1/videos/{job_id}/content")
    assert queued.status_code == 409
    assert queued.headers["x-should-retry"] == "false"
    assert "queued" in queued.get_json()["error"]["message"]

    job = claim(store, job_id)
    assert (
        "in_progress" in served.get(f"/v1/videos/{job_id}/content").get_json()["error"]["message"]
    )

    store.fail(job_id, job.fence, JobError(code="error", message="x"))
    failed = served.get(f"/v1/videos/{job_id}/content")
    assert failed.status_code == 404
    assert "failed" in failed.get_json()["error"]["message"]


def test_a_file_that_the_disk_lost_is_404_and_not_a_broken_stream(
    served: FlaskClient, path: str, artifacts: ArtifactStore
) -> None:
    artifacts.delete_prefix("jobs")
    answer = served.get(path)
    assert answer.status_code == 404
    assert answer.get_json()["error"]["code"] == "not_found"


# S3 -----------------------------------------------------------------------------------------------


def test_s3_redirects_to_a_link_that_works_without_us(s3_app: S3App, clip: Path) -> None:
    client, store, artifacts = s3_app()
    job_id = create(client)
    finish(store, artifacts, job_id, clip)
    answer = client.get(f"/v1/videos/{job_id}/content")
    assert answer.status_code == 302
    assert answer.headers["cache-control"] == "no-store"
    followed = httpx.get(answer.headers["location"])
    assert (followed.status_code, followed.content) == (200, CONTENT)
    assert followed.headers["content-type"] == "video/mp4"
    assert followed.headers["content-disposition"] == f'attachment; filename="{job_id}.mp4"'
    head = client.head(f"/v1/videos/{job_id}/content")
    assert (head.status_code, head.headers["content-length"]) == (200, str(len(CONTENT)))


def test_s3_streams_to_who_cannot_follow(s3_app: S3App, clip: Path) -> None:
    client, store, artifacts = s3_app()
    job_id = create(client)
    finish(store, artifacts, job_id, clip)
    answer = client.get(f"/v1/videos/{job_id}/content", query_string={"redirect": "false"})
    assert (answer.status_code, answer.data) == (200, CONTENT)


def test_s3_streams_when_its_public_endpoint_is_our_own_origin(s3_app: S3App, clip: Path) -> None:
    client, store, artifacts = s3_app(s3_public_endpoint_url="https://media.test", open=True)
    job_id = create(client)
    finish(store, artifacts, job_id, clip)
    path = f"/v1/videos/{job_id}/content"

    whole = client.get(path, base_url="https://media.test")
    assert (whole.status_code, whole.data) == (200, CONTENT)
    part = client.get(path, base_url="https://media.test", headers={"range": "bytes=300000-400000"})
    assert (part.status_code, part.data) == (206, CONTENT[300_000:400_001])

    elsewhere = client.get(path, base_url="https://api.test")
    assert elsewhere.status_code == 302
    assert urlsplit(elsewhere.headers["location"]).netloc == "media.test"


def test_s3_that_refuses_is_503_and_tells_no_internals(s3_app: S3App, clip: Path) -> None:
    own_origin = {"s3_public_endpoint_url": "http://localhost"}
    client, store, artifacts = s3_app(**own_origin)
    job_id = create(client)
    finish(store, artifacts, job_id, clip)

    refused, _, _ = s3_app(**own_origin, s3_secret_access_key="wrong-secret")
    answer = refused.get(f"/v1/videos/{job_id}/content")
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert answer.get_json()["error"]["code"] == "storage_unavailable"
    assert b"rushes-test" not in answer.data
    assert b"403" not in answer.data


def test_a_big_file_is_not_held_in_memory(
    served: FlaskClient, store: JobStore, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        file.truncate(64 * 2**20)
    job_id = create(served)
    finish(store, artifacts, job_id, big)
    answer = served.get(f"/v1/videos/{job_id}/content", buffered=False)
    chunks = [len(chunk) for chunk in answer.iter_encoded()]
    answer.close()
    assert sum(chunks) == big.stat().st_size
    assert max(chunks) <= 2**20


def test_each_output_and_each_picture_of_it_is_reachable(
    served: FlaskClient, store: JobStore, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    body = {"prompt": "x", "num_outputs": 2, "seed": 5}
    job = claim(store, served.post("/v1/videos", json=body).get_json()["id"])
    files = []
    for number in range(2):
        for kind, suffix, content_type in (
            ("video", ".mp4", "video/mp4"),
            ("thumbnail", ".webp", "image/webp"),
            ("spritesheet", ".jpg", "image/jpeg"),
        ):
            path = tmp_path / f"{kind}-{number}{suffix}"
            path.write_text(path.name)
            key = f"jobs/{job.id}/{job.fence}/{path.name}"
            stored = artifacts.put(key, path, content_type)
            files.append(
                Artifact(
                    kind=kind,
                    key=key,
                    content_type=content_type,
                    size_bytes=stored.size_bytes,
                    sha256=stored.sha256,
                    seed=5 + number,
                    width=128,
                    height=128,
                    num_frames=17,
                    fps=8,
                )
            )
    usage = Usage(device_s=1.0, peak_memory_bytes=1, timings_s={}, started_at=1.0, ended_at=2.0)
    assert store.complete(job.id, job.fence, files, usage)
    done = served.get(f"/v1/videos/{job.id}").get_json()
    JobObject.model_validate(done, strict=False)
    listed = {(each["kind"], each["index"]): each for each in done["artifacts"]}
    assert len(listed) == 6
    for (kind, index), each in listed.items():
        answer = served.get(each["url"])
        assert answer.status_code == 200, answer.text
        assert answer.text.startswith(f"{kind}-{index}")
        assert answer.content_type.startswith(each["content_type"])
        assert each["seed"] == 5 + index
    base = f"/v1/videos/{job.id}/content"
    assert served.get(base).text == "video-0.mp4"
    assert f"{job.id}-1-thumbnail.webp" in str(
        served.head(f"{base}?variant=thumbnail&index=1").headers["content-disposition"]
    )
    assert served.get(f"{base}?index=2").status_code == 404
    assert served.get(f"{base}?index=-1").status_code == 400
