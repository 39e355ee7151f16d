"""Artifacts in a bucket of S3 or of anything that speaks its protocol.

A worker killed in the middle of a multipart upload leaves its parts behind; `delete_prefix` aborts
them, so the sweep of a dead attempt frees them too.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, ParamValidationError

from jobs.artifacts.store import (
    Chunks,
    SourceChunks,
    StoredFile,
    Vanished,
    probe,
    safe_key,
    safe_range,
)
from jobs.errors import NotFound, StorageRefused, StorageUnavailable
from jobs.settings import Settings

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PART_BYTES = 8 * 2**20
"""Files above it are sent in parts of it, two at a time: that bounds an upload's memory."""

_FOR_GOOD = {
    "NoSuchBucket",
    "InvalidBucketName",
    "PermanentRedirect",  # the bucket is in another region
    "AuthorizationHeaderMalformed",  # the same, as AWS says it to signed requests
}
"""Error codes, beside statuses 401 and 403, that no waiting changes."""


class S3Artifacts:
    """An ArtifactStore in one bucket, under `s3_prefix`."""

    def __init__(self, settings: Settings) -> None:
        """Takes every `s3_*` setting; nothing is contacted yet."""
        self._bucket = settings.s3_bucket or ""  # Settings refuses s3 without a bucket
        prefix = settings.s3_prefix.strip("/")
        self._prefix = f"{safe_key(prefix)}/" if prefix else ""
        self._link_s = settings.s3_link_s
        # A session of its own: boto3's default one is module-global and not safe between threads.
        session = boto3.session.Session()
        self._client = _client(session, settings, settings.s3_endpoint_url)
        # The host is part of the signature, so links for another one need a client of their own.
        public_url = settings.s3_public_endpoint_url
        self._public = _client(session, settings, public_url) if public_url else self._client
        self._transfer = TransferConfig(
            multipart_threshold=PART_BYTES, multipart_chunksize=PART_BYTES, max_concurrency=2
        )

    def put(self, key: str, path: Path, content_type: str) -> StoredFile:
        """See ArtifactStore. Ends with a look at what arrived."""
        name = self._name(key)
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            size = file.tell()
        with self._translated("upload"):
            self._client.upload_file(
                str(path),
                self._bucket,
                name,
                ExtraArgs={"ContentType": content_type},
                Config=self._transfer,
            )
        try:
            arrived = self.size(key)
        except NotFound as error:  # which says nothing of `path`: another try may mend it
            raise Vanished(f"S3 took {key} and does not have it") from error
        if arrived != size:
            raise StorageUnavailable(f"S3 stored {arrived} bytes of {key}, sent were {size}")
        return StoredFile(size_bytes=size, sha256=sha256)

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Chunks:
        """See ArtifactStore."""
        safe_range(start, length)
        name = self._name(key)
        with self._translated("download", key):
            if not start and length is None:
                answer = self._client.get_object(Bucket=self._bucket, Key=name)
                return SourceChunks(answer["Body"], None, self._translated)
            stop = "" if length is None else start + length - 1
            try:
                answer = self._client.get_object(
                    Bucket=self._bucket, Key=name, Range=f"bytes={start}-{stop}"
                )
            except ClientError as error:
                if _status(error) != 416:
                    raise
                return SourceChunks(io.BytesIO(), 0, self._translated)  # past the end
            return SourceChunks(answer["Body"], length, self._translated)

    def size(self, key: str) -> int:
        """See ArtifactStore."""
        name = self._name(key)
        with self._translated("look-up", key):
            return self._client.head_object(Bucket=self._bucket, Key=name)["ContentLength"]

    def url(self, key: str, *, content_type: str, file_name: str) -> str | None:
        """A presigned GET for `s3_public_endpoint_url`, good for `s3_link_s` seconds."""
        with self._translated("signing"):
            return self._public.generate_presigned_url(
                "get_object",
                Params={
                    "Bucket": self._bucket,
                    "Key": self._name(key),
                    "ResponseContentType": content_type,
                    "ResponseContentDisposition": f'attachment; filename="{safe_key(file_name)}"',
                },
                ExpiresIn=self._link_s,
            )

    def delete_prefix(self, prefix: str) -> int:
        """See ArtifactStore."""
        folder = f"{self._name(prefix.removesuffix('/'))}/"
        deleted = 0
        with self._translated("deletion"):
            self._abort_uploads(folder)
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=folder
            )
            for page in pages:
                for item in page.get("Contents", []):
                    self._client.delete_object(Bucket=self._bucket, Key=item["Key"])
                    deleted += 1
        return deleted

    def check(self) -> None:
        """See ArtifactStore."""
        probe(self)

    def _name(self, key: str) -> str:
        return self._prefix + safe_key(key)

    def _abort_uploads(self, folder: str) -> None:
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=folder
        )
        for page in pages:
            for upload in page.get("Uploads", []):
                self._client.abort_multipart_upload(
                    Bucket=self._bucket, Key=upload["Key"], UploadId=upload["UploadId"]
                )

    @contextmanager
    def _translated(self, what: str = "download", key: str | None = None) -> Iterator[None]:
        """Boto's errors as ours. With `key`, a 404 for it is NotFound."""
        try:
            yield
        except (ClientError, BotoCoreError, Boto3Error) as error:
            # upload_file wraps what the service answered
            cause = error.__context__ if isinstance(error, Boto3Error) else error
            if not isinstance(cause, ClientError):
                # Only the kind: boto's text may hold the whole signed URL.
                kind = type(cause or error).__name__
                refused = isinstance(cause, NoCredentialsError | ParamValidationError)
                raise (StorageRefused if refused else StorageUnavailable)(
                    f"S3 {what} in {self._bucket} failed: {kind}"
                ) from error
            code = cause.response.get("Error", {}).get("Code", "")
            if key is not None and _status(cause) == 404 and code != "NoSuchBucket":
                raise NotFound(f"no artifact {key}") from error
            refused = _status(cause) in (401, 403) or code in _FOR_GOOD
            raise (StorageRefused if refused else StorageUnavailable)(
                f"S3 {what} in {self._bucket} was answered {_status(cause)} {code}"
            ) from error


def _client(
    session: boto3.session.Session, settings: Settings, endpoint_url: str | None
) -> S3Client:
    secret = settings.s3_secret_access_key
    return session.client(
        "s3",
        endpoint_url=endpoint_url,
        region_name=settings.s3_region,
        aws_access_key_id=settings.s3_access_key_id,
        aws_secret_access_key=None if secret is None else secret.get_secret_value(),
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path" if settings.s3_path_style else "virtual"},
            retries={"mode": "standard", "total_max_attempts": 4},
            connect_timeout=5,
            read_timeout=30,
            # Stores other than AWS do not all know the checksum trailers that boto3 adds by default.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _status(error: ClientError) -> int:
    return error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
