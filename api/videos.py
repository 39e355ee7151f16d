"""/v1/videos: create and remix; the rest is as for any job."""

from __future__ import annotations

from flask import Blueprint, Response, request

from api.accept import accept
from api.bodies import read_body
from api.door import owner
from api.fields import RemixBody, VideoBody, merged
from api.jobs import created, known
from api.parts import Parts
from pipeline.request import check, parse, resolve


def blueprint(parts: Parts) -> Blueprint:
    """The routes that make videos."""
    routes = Blueprint("videos", __name__, url_prefix="/v1/videos")

    @routes.post("")
    @routes.post("/generations")
    def create() -> Response:
        body = parse(VideoBody, merged(read_body(request)))
        wanted = resolve(body, parts.catalog.card(body.model))
        return created(parts, accept(parts, wanted, body, kind="video"))

    @routes.post("/<job_id>/remix")
    def remix(job_id: str) -> Response:
        job = parts.store.get(known(job_id, "video"), owner=owner())
        body = parse(RemixBody, merged(read_body(request)))
        wanted = job.request.model_copy(update={"prompt": body.prompt.strip()})
        check(wanted, parts.catalog.card(job.model))
        return created(parts, accept(parts, wanted, body, kind="video", remixed_from=job.id))

    return routes
