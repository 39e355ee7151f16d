"""What only S3 has: signatures, links, parts, and answers that are errors."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from jobs.artifacts import check_at_start, open_artifacts
from jobs.artifacts.s3 import PART_BYTES, S3Artifacts
from jobs.errors import SettingsError, StorageUnavailable
from jobs.settings import Settings
from tests.fixtures.s3 import BUCKET, SECRET_KEY, S3Server

WRONG_SECRET = "wrong-secret-9876543210"


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"not really a video" * 100)
    return path


def link(s3_server: S3Server, home: Path, clip: Path, **overrides: object) -> str:
    store = open_artifacts(s3_server.settings(home, **overrides))
    store.put("jobs/a/1/video.mp4", clip, "application/octet-stream")
    url = store.url("jobs/a/1/video.mp4", content_type="video/mp4", file_name="video_1.mp4")
    assert url is not None
    return url


def test_a_link_works_over_plain_http_with_type_and_name(
    s3_server: S3Server, tmp_path: Path, clip: Path
) -> None:
    url = link(s3_server, tmp_path, clip)
    answer = httpx.get(url)
    assert answer.status_code == 200
    assert answer.content == clip.read_bytes()
    assert answer.headers["content-type"] == "video/mp4"
    assert answer.headers["content-disposition"] == 'attachment; filename="video_1.mp4"'
    assert SECRET_KEY not in url

    part = httpx.get(url, headers={"range": "bytes=4-9"})
    assert (part.status_code, part.content) == (206, clip.read_bytes()[4:10])


def test_a_tampered_link_is_403(s3_server: S3Server, tmp_path: Path, clip: Path) -> None:
    url = link(s3_server, tmp_path, clip)
    for tampered in (
        url.replace("video%2Fmp4", "text%2Fhtml"),
        url.replace("X-Amz-Expires=3600", "X-Amz-Expires=36000"),
        url.replace("/jobs/a/1/", "/jobs/a/2/"),
        url.partition("?")[0],
    ):
        assert tampered != url
        assert httpx.get(tampered).status_code == 403


def test_an_expired_link_is_403(
    s3_server: S3Server, tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_artifacts(s3_server.settings(tmp_path, s3_link_s=60))
    store.put("v.mp4", clip, "video/mp4")
    import botocore.auth
    from botocore.compat import get_current_datetime

    def two_minutes_ago(**how: bool) -> object:
        from datetime import timedelta

        return get_current_datetime(**how) - timedelta(minutes=2)

    monkeypatch.setattr(botocore.auth, "get_current_datetime", two_minutes_ago)
    url = store.url("v.mp4", content_type="video/mp4", file_name="v.mp4")
    assert url is not None
    assert httpx.get(url).status_code == 403


def test_links_are_made_for_the_public_endpoint_and_lifetime(
    s3_server: S3Server, tmp_path: Path, clip: Path
) -> None:
    url = link(
        s3_server, tmp_path, clip, s3_public_endpoint_url="https://media.test:444", s3_link_s=77
    )
    parts = urlsplit(url)
    assert (parts.scheme, parts.netloc) == ("https", "media.test:444")
    assert parts.path.startswith(f"/{BUCKET}/tests/")
    assert parse_qs(parts.query)["X-Amz-Expires"] == ["77"]


def test_the_bucket_goes_into_the_host_when_not_path_style(tmp_path: Path) -> None:
    store = open_artifacts(
        Settings(
            home=tmp_path,
            artifacts="s3",
            s3_endpoint_url="https://s3.test",
            s3_bucket="films",
            s3_path_style=False,
            s3_access_key_id="id",
            s3_secret_access_key=WRONG_SECRET,
        )
    )
    url = store.url("v.mp4", content_type="video/mp4", file_name="v.mp4")
    assert url is not None
    assert url.startswith("https://films.s3.test/v.mp4?")


def vanishing(
    s3_server: S3Server, home: Path, monkeypatch: pytest.MonkeyPatch, *, times: int
) -> S3Artifacts:
    """A store whose first `times` uploads are deleted before it looks at them."""
    store = S3Artifacts(s3_server.settings(home))
    upload, left = store._client.upload_file, [None] * times

    def upload_file(path: str, bucket: str, name: str, **more: Any) -> None:
        upload(path, bucket, name, **more)
        if left:
            left.pop()
            store._client.delete_object(Bucket=bucket, Key=name)

    monkeypatch.setattr(store._client, "upload_file", upload_file)
    return store


def test_an_upload_that_is_not_there_is_tried_again_like_any_outage(
    s3_server: S3Server, tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = vanishing(s3_server, tmp_path, monkeypatch, times=1)
    with pytest.raises(StorageUnavailable, match="does not have it"):
        store.put("jobs/a/1/video.mp4", clip, "video/mp4")
    assert store.put("jobs/a/1/video.mp4", clip, "video/mp4").size_bytes == clip.stat().st_size


def test_a_check_begins_anew_when_another_deletes_its_upload(
    s3_server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vanishing(s3_server, tmp_path, monkeypatch, times=2).check()
    with pytest.raises(StorageUnavailable, match="has not what was put"):
        vanishing(s3_server, tmp_path, monkeypatch, times=9).check()


def test_a_big_file_goes_up_in_parts(s3_server: S3Server, tmp_path: Path) -> None:
    big = tmp_path / "big"
    with big.open("wb") as file:
        for _ in range(5):
            file.write(os.urandom(PART_BYTES // 2))
    settings = s3_server.settings(tmp_path)
    store = open_artifacts(settings)

    stored = store.put("jobs/a/big", big, "video/mp4")

    head = s3_server.client().head_object(Bucket=BUCKET, Key=f"{settings.s3_prefix}/jobs/a/big")
    assert head["ETag"].strip('"').endswith("-3"), "two whole parts and a half one"
    assert head["ContentType"] == "video/mp4"
    assert stored.size_bytes == head["ContentLength"] == big.stat().st_size
    with closing(store.read("jobs/a/big", start=PART_BYTES - 10, length=20)) as chunks:
        assert b"".join(chunks) == big.read_bytes()[PART_BYTES - 10 : PART_BYTES + 10]


def test_delete_prefix_frees_the_parts_of_a_killed_upload(
    s3_server: S3Server, tmp_path: Path
) -> None:
    settings, client = s3_server.settings(tmp_path), s3_server.client()
    key = f"{settings.s3_prefix}/jobs/a/1/big"
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=key)["UploadId"]
    client.upload_part(Bucket=BUCKET, Key=key, UploadId=upload, PartNumber=1, Body=b"x" * 100)

    open_artifacts(settings).delete_prefix("jobs/a/1")

    left = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    assert upload not in [each["UploadId"] for each in left]


@pytest.mark.parametrize(
    ("overrides", "named"),
    [
        ({"s3_secret_access_key": WRONG_SECRET}, "403"),
        ({"s3_access_key_id": "nobody"}, "403"),
    ],
)
def test_what_the_service_refuses_is_unavailable_and_tells_no_secret(
    s3_server: S3Server, tmp_path: Path, clip: Path, overrides: dict[str, object], named: str
) -> None:
    store = open_artifacts(s3_server.settings(tmp_path, **overrides))
    with pytest.raises(StorageUnavailable, match=named) as put:
        store.put("jobs/a/video.mp4", clip, "video/mp4")
    with pytest.raises(SettingsError, match=f"the artifact storage refuses: .*{named}"):
        check_at_start(store)
    with pytest.raises(StorageUnavailable, match=named):
        store.delete_prefix("jobs/a")
    assert WRONG_SECRET not in str(put.value)
    assert SECRET_KEY not in str(put.value)


def test_a_wrong_secret_is_no_missing_file(s3_server: S3Server, tmp_path: Path) -> None:
    store = open_artifacts(s3_server.settings(tmp_path, s3_secret_access_key=WRONG_SECRET))
    with pytest.raises(StorageUnavailable, match="403"):
        store.size("jobs/a/video.mp4")
    with pytest.raises(StorageUnavailable, match="403"):
        store.read("jobs/a/video.mp4")


def test_nobody_listening_is_unavailable(s3_server: S3Server, tmp_path: Path, clip: Path) -> None:
    store = open_artifacts(s3_server.settings(tmp_path, s3_endpoint_url="http://127.0.0.1:9"))
    with pytest.raises(StorageUnavailable, match="EndpointConnectionError"):
        store.size("jobs/a/video.mp4")
    problem = check_at_start(store)
    assert problem is not None
    assert problem.endswith("failed: EndpointConnectionError")
