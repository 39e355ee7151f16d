"""/v1/videos: create and remix; the rest is as for any job."""

from __future__ import annotations

from functools import partial

from flask import Blueprint, Response, request

from api.accept import accept
from api.bodies import read_body
from api.door import owner
from api.fields import RemixBody, VideoBody, merged
from api.inputs import gather, resolve_with
from api.jobs import created, known
from api.parts import Parts
from jobs.inputs import get_inputs
from pipeline.request import check, parse

IMAGE = "input_reference"


def blueprint(parts: Parts) -> Blueprint:
    """The routes that make videos."""
    routes = Blueprint("videos", __name__, url_prefix="/v1/videos")

    @routes.post("")
    @routes.post("/generations")
    def create() -> Response:
        body = parse(VideoBody, merged(read_body(request)))
        given = () if body.input_reference is None else (body.input_reference,)
        card = parts.catalog.card(body.model)
        wanted = resolve_with(body, card, given, IMAGE)
        images = partial(gather, given, IMAGE, card, parts.settings)
        return created(parts, accept(parts, wanted, body, kind="video", images=images))

    @routes.post("/<job_id>/remix")
    def remix(job_id: str) -> Response:
        job = parts.store.get(known(job_id, "video"), owner=owner())
        body = parse(RemixBody, merged(read_body(request)))
        wanted = job.request.model_copy(update={"prompt": body.prompt.strip()})
        card = parts.catalog.card(job.model)
        check(wanted, card)
        images = partial(get_inputs, parts.artifacts, job, card)
        look = accept(parts, wanted, body, kind="video", images=images, remixed_from=job.id)
        return created(parts, look)

    return routes
