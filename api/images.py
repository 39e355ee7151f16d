"""/v1/images/generations and edits: OpenAI's synchronous images, over the same durable jobs."""

from __future__ import annotations

import base64
import time
from collections.abc import Sequence
from contextlib import closing
from functools import partial
from typing import Any

from flask import Blueprint, Response, jsonify, request

from api import content
from api.accept import accept
from api.answers import answered, applied, preferred, wait_for_end
from api.bodies import read_body
from api.door import owner
from api.errors import problem
from api.fields import EditBody, ImageBody, merged
from api.given import Given
from api.inputs import gather, resolve_with
from api.parts import Parts
from jobs.record import Job
from jobs.states import State
from pipeline.limits import RequestError
from pipeline.request import parse

IMAGE, IMAGES = "image", "images"
"""OpenAI's names for the same: in forms, and in JSON."""
_AT_FAULT = ("invalid_request", "input_missing")
"""Codes of jobs that failed by what the client sent, which only the gang could see."""


def blueprint(parts: Parts) -> Blueprint:
    """The routes that make images."""
    routes = Blueprint("images", __name__, url_prefix="/v1/images")

    @routes.post("/generations")
    def create() -> Response:
        return _made(parts, parse(ImageBody, merged(read_body(request))), ())

    @routes.post("/edits")
    def edit() -> Response:
        given = merged(read_body(request, several=(IMAGE,)))
        if IMAGES in given:
            if IMAGE in given:
                raise RequestError(IMAGES, None, f"must be given once, was also given as {IMAGE}")
            given[IMAGE] = given.pop(IMAGES)
        body = parse(EditBody, given)
        return _made(parts, body, body.image)

    return routes


def _made(parts: Parts, body: ImageBody, given: Sequence[Given]) -> Response:
    card = parts.catalog.card(body.model)
    workload = "i2i" if given else "t2i"
    if workload not in card.workloads:
        served = ", ".join(card.workloads)
        raise RequestError("model", card.name, f"must serve {workload}; this one serves {served}")
    card.check("n", body.n, 1, card.max_outputs)
    wanted = resolve_with(body.params(), card, given, IMAGE)
    images = partial(gather, given, IMAGE, card, parts.settings)
    look = accept(parts, wanted, body, kind="image", images=images)
    prefer = preferred(parts)
    if not prefer.respond_async:
        look = wait_for_end(parts, look, owner(), parts.settings.image_wait_s)
        return _answer(parts, look.job, body.response_format)
    if prefer.wait_s:
        look = wait_for_end(parts, look, owner(), prefer.wait_s)
    if look.job.state.terminal:
        return applied(_answer(parts, look.job, body.response_format), look, prefer)
    return applied(answered(parts, look), look, prefer)


def _answer(parts: Parts, job: Job, form: str) -> Response:
    if job.state is State.COMPLETED:
        return jsonify(
            id=job.id,
            created=int(job.completed_at or time.time()),
            data=[_image(parts, job, index, form) for index in range(job.request.num_outputs)],
            output_format=job.request.output_format,
            size=job.request.size,
        )
    if job.state is State.FAILED and job.error is not None:
        ours = job.error.code not in _AT_FAULT
        param = None if ours or not job.request.images else IMAGE
        status = 500 if ours else 400
        answer = problem(status, job.error.message, job.error.code, param=param, id=job.id)
    elif job.state is State.CANCELLED:
        answer = problem(409, f"{job.id} was cancelled", "cancelled", id=job.id)
    else:
        waited = f"{parts.settings.image_wait_s} s"
        text = f"{job.id} is {job.state} after {waited} and goes on: GET /v1/images/{job.id}"
        answer = problem(504, text, "image_timeout", id=job.id)
    answer.headers["x-should-retry"] = "false"  # a retry would make a second image
    return answer


def _image(parts: Parts, job: Job, index: int, form: str) -> dict[str, Any]:
    artifact = content.find(job, "image", index)
    image: dict[str, Any] = {"seed": artifact.seed, "url": None, "b64_json": None}
    if form == "b64_json":
        with closing(parts.artifacts.read(artifact.key)) as chunks:
            image["b64_json"] = base64.b64encode(b"".join(chunks)).decode()
        return image
    link = content.link(job, artifact, parts.artifacts)
    base = (parts.settings.public_url or request.url_root).rstrip("/")
    query = f"?index={index}" if index else ""
    image["url"] = link or f"{base}/v1/images/{job.id}/content{query}"
    return image
