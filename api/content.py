"""A finished job's file: streamed with ranges, or a redirect to a presigned link."""

from __future__ import annotations

import mimetypes
from http import HTTPStatus
from urllib.parse import urlsplit

from flask import Request, Response

from api.fields import ContentQuery
from api.ranges import part_for
from jobs.artifacts import ArtifactStore
from jobs.errors import Conflict, NotFound
from jobs.record import Artifact, Job
from jobs.states import State


def answer(job: Job, query: ContentQuery, artifacts: ArtifactStore, request: Request) -> Response:
    """The file of `job` that `query` names, as RFC 9110 has it for this request.

    Raises:
        Conflict: the job still runs.
        NotFound: it ended without such a file.
    """
    artifact = find(job, query.variant, query.index)
    url = link(job, artifact, artifacts) if query.redirect else None
    if url is not None and urlsplit(url).netloc != request.host and request.method == "GET":
        # To our own host the SDK would send its key along; and the link is signed for GET only.
        return Response(status=302, headers={"location": url, "cache-control": "no-store"})
    return _stream(artifact, _file_name(job, artifact), artifacts, request)


def link(job: Job, artifact: Artifact, artifacts: ArtifactStore) -> str | None:
    """A presigned link to the file; None where the store has none."""
    return artifacts.url(
        artifact.key, content_type=artifact.content_type, file_name=_file_name(job, artifact)
    )


def _file_name(job: Job, artifact: Artifact) -> str:
    number = artifact.seed - job.request.seed
    output = f"-{number}" if number else ""
    kind = "" if artifact.kind == job.kind else f"-{artifact.kind}"
    return f"{job.id}{output}{kind}{mimetypes.guess_extension(artifact.content_type) or ''}"


def find(job: Job, variant: str, index: int = 0) -> Artifact:
    """The file of `job` that `variant` names, of its output `index`.

    Raises:
        Conflict: the job still runs.
        NotFound: it ended without such a file.
    """
    if not job.state.terminal:
        raise Conflict(f"{job.id} is {job.state}; its content is there once it is completed")
    if job.state is not State.COMPLETED:
        raise NotFound(f"{job.id} has no content: it is {job.state}")
    # A page or a player asks for the video, whatever the job has made.
    kinds = ("video", "image") if variant == "video" else (variant,)
    found = [artifact for artifact in job.artifacts if artifact.kind in kinds]
    if index < len(found):
        return found[index]
    raise NotFound(f"{job.id} has no {variant}" + (f" of index {index}" if found else ""))


def _stream(
    artifact: Artifact, file_name: str, artifacts: ArtifactStore, request: Request
) -> Response:
    size = artifact.size_bytes
    part = part_for(request, etag=artifact.sha256, size=size)
    response = Response(
        status=part.status,
        content_type=artifact.content_type,
        headers={
            "accept-ranges": "bytes",
            "content-length": str(part.stop - part.start),
            "content-disposition": f'attachment; filename="{file_name}"',
            "cache-control": "private",
            "x-content-type-options": "nosniff",
        },
    )
    response.set_etag(artifact.sha256)
    if part.status == HTTPStatus.PARTIAL_CONTENT:
        response.headers["content-range"] = f"bytes {part.start}-{part.stop - 1}/{size}"
    if part.status != HTTPStatus.NOT_MODIFIED and request.method == "GET":
        # Opened here, not at the first chunk: a missing file must still become a 404.
        length = part.stop - part.start
        response.response = artifacts.read(artifact.key, start=part.start, length=length)
    return response
