"""The routes that videos and images share: look, list, cancel, retry, delete, content, events."""

from __future__ import annotations

import re
from functools import partial

from flask import Blueprint, Response, jsonify, request
from werkzeug.routing import BaseConverter

from api import content
from api.accept import accept
from api.answers import answered, applied, described, preferred, wait_for_end
from api.bodies import read_body, read_query
from api.door import owner
from api.fields import ContentQuery, ListQuery, RetryBody, merged
from api.parts import Parts
from api.streams import JobStream
from jobs.errors import Conflict, NotFound
from jobs.inputs import get_inputs
from jobs.outlook import Look
from jobs.reader import Filter
from jobs.states import State
from pipeline.request import check, parse


class JobConverter(BaseConverter):
    """Anything but the names of the routes that create: GET of one of these is 405, not a job's 404.

    Nor `variations`, which OpenAI has and this server has not: POST is 404, not a job's 405.
    """

    regex = "(?!(?:generations|edits|variations)$)[^/]+"


def blueprint(parts: Parts, kind: str) -> Blueprint:
    """The routes of one kind of job, video or image."""
    routes = Blueprint(f"{kind}_jobs", __name__, url_prefix=f"/v1/{kind}s")

    @routes.get("")
    def index() -> Response:
        query = parse(ListQuery, read_query(request))
        model = None if query.model is None else parts.catalog.first_name(query.model)
        page = parts.store.list(
            owner(),
            after=None if query.after is None else known(query.after, kind),
            limit=query.limit,
            order=query.order,
            only=Filter(kind, query.status, model, query.created_after, query.created_before),
        )
        data = [described(parts, look) for look in page.looks]
        return jsonify(
            object="list",
            data=data,
            first_id=data[0]["id"] if data else None,
            last_id=data[-1]["id"] if data else None,
            has_more=page.has_more,
        )

    @routes.get("/<job:job_id>")
    def retrieve(job_id: str) -> Response:
        return answered(parts, parts.store.look(known(job_id, kind), owner=owner()))

    @routes.get("/<job_id>/content")
    def download(job_id: str) -> Response:
        query = parse(ContentQuery, read_query(request))
        job = parts.store.get(known(job_id, kind), owner=owner())
        return content.answer(job, query, parts.artifacts, request)

    @routes.get("/<job_id>/events")
    def events(job_id: str) -> Response:
        job = parts.store.get(known(job_id, kind), owner=owner())
        return Response(
            JobStream(parts, job.id, owner()),
            content_type="text/event-stream",
            headers={"cache-control": "no-store", "x-accel-buffering": "no"},
        )

    @routes.post("/<job_id>/cancel")
    def cancel(job_id: str) -> Response:
        parts.store.cancel(known(job_id, kind), owner=owner())
        return answered(parts, parts.store.look(job_id, owner=owner()))

    @routes.post("/<job_id>/retry")
    def retry(job_id: str) -> Response:
        job = parts.store.get(known(job_id, kind), owner=owner())
        body = parse(RetryBody, merged(read_body(request)) if request.content_length else {})
        if job.state not in (State.FAILED, State.CANCELLED):
            raise Conflict(f"{job.id} is {job.state}; only a failed or cancelled job is retried")
        card = parts.catalog.card(job.model)
        check(job.request, card)
        images = partial(get_inputs, parts.artifacts, job, card)
        look = accept(parts, job.request, body, kind=kind, images=images, retry_of=job.id)
        return created(parts, look)

    @routes.delete("/<job:job_id>")
    def delete(job_id: str) -> Response:
        parts.store.delete(known(job_id, kind), owner=owner())
        return jsonify(id=job_id, object=f"{kind}.deleted", deleted=True)

    return routes


def created(parts: Parts, look: Look) -> Response:
    """The new job, at once or, with `Prefer: wait`, once it has ended or the wait is over."""
    prefer = preferred(parts)
    if prefer.wait_s:
        look = wait_for_end(parts, look, owner(), prefer.wait_s)
    return applied(answered(parts, look), look, prefer)


def known(job_id: str, kind: str) -> str:
    """`job_id`, if it can be one of that kind at all.

    Raises:
        NotFound: as for any other id that is not there.
    """
    if not re.fullmatch(rf"{kind}_[0-7][0-9A-HJKMNP-TV-Z]{{25}}", job_id):
        raise NotFound(f"no {kind} {job_id[:60]!r}")
    return job_id
