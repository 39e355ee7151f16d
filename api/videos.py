"""/v1/videos: create, look, list, cancel, delete."""

from __future__ import annotations

import re
import time
from typing import Literal

import structlog
from flask import Blueprint, Response, jsonify, request
from pydantic import BaseModel, ConfigDict, Field

from api import content
from api.bodies import read_body
from api.parts import Parts, owner
from jobs.errors import NotFound
from jobs.public import public
from jobs.record import Job, new_id
from jobs.webhooks import check_webhook_url
from pipeline.request import Int, Params, parse, resolve

POLL_AFTER_MS = 1000
"""How long a client's poll should wait before the next one."""

_log = structlog.get_logger("api")
_ID = re.compile(r"(video|image)_[0-7][0-9A-HJKMNP-TV-Z]{25}")


class VideoBody(Params):
    """What a create takes."""

    webhook_url: str | None = None


class ListQuery(BaseModel):
    """What a list takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    after: str | None = None
    limit: Int = Field(default=20, ge=1, le=100)
    order: Literal["asc", "desc"] = "desc"


class ContentQuery(BaseModel):
    """What a content request takes."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: Literal["video", "thumbnail", "spritesheet"] = "video"


def blueprint(parts: Parts) -> Blueprint:
    """The routes under /v1/videos."""
    routes = Blueprint("videos", __name__, url_prefix="/v1/videos")

    @routes.post("")
    @routes.post("/generations")
    def create() -> Response:
        body = parse(VideoBody, read_body(request))
        resolved = resolve(body, parts.workers.card(body.model))
        if body.webhook_url is not None:
            check_webhook_url(body.webhook_url, parts.settings)
        job = parts.store.submit(
            Job(
                id=new_id(),
                owner=owner(),
                request=resolved,
                created_at=time.time(),
                webhook_url=body.webhook_url,
            )
        )
        _log.info("job accepted", job_id=job.id, model=job.model)
        return jsonify(public(job))

    @routes.get("")
    def index() -> Response:
        query = parse(ListQuery, request.args.to_dict())
        after = None if query.after is None else known(query.after)
        page = parts.store.list(owner(), after=after, limit=query.limit, order=query.order)
        data = [public(job) for job in page.jobs]
        return jsonify(
            object="list",
            data=data,
            first_id=data[0]["id"] if data else None,
            last_id=data[-1]["id"] if data else None,
            has_more=page.has_more,
        )

    @routes.get("/<job_id>")
    def retrieve(job_id: str) -> Response:
        job = parts.store.get(known(job_id), owner=owner())
        answer = jsonify(public(job))
        if not job.state.terminal:
            answer.headers["openai-poll-after-ms"] = str(POLL_AFTER_MS)
        return answer

    @routes.get("/<job_id>/content")
    def download(job_id: str) -> Response:
        query = parse(ContentQuery, request.args.to_dict())
        job = parts.store.get(known(job_id), owner=owner())
        return content.answer(job, query.variant, parts.artifacts, request)

    @routes.post("/<job_id>/cancel")
    def cancel(job_id: str) -> Response:
        return jsonify(public(parts.store.cancel(known(job_id), owner=owner())))

    @routes.delete("/<job_id>")
    def delete(job_id: str) -> Response:
        parts.store.delete(known(job_id), owner=owner())
        return jsonify(id=job_id, object="video.deleted", deleted=True)

    return routes


def known(job_id: str) -> str:
    """`job_id`, if it can be one at all.

    Raises:
        NotFound: as for any other id that is not there.
    """
    if not _ID.fullmatch(job_id):
        raise NotFound(f"no video {job_id[:60]!r}")
    return job_id
