"""What admins may do over all owners: workers, queue, quotas, anybody's job."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from api.answers import answered
from api.bodies import read_body
from api.door import need_admin
from api.fields import DrainBody
from api.parts import Parts
from jobs.admin import Admin
from jobs.quotas import Limits, Quotas
from jobs.reports import Report
from pipeline.request import parse


def blueprint(parts: Parts) -> Blueprint:
    """The routes under /v1/admin; each wants a key of scope admin."""
    routes = Blueprint("admin", __name__, url_prefix="/v1/admin")
    admin, quotas = Admin(parts.store), Quotas(parts.store)

    @routes.before_request
    def guard() -> None:
        if request.method != "OPTIONS":  # a preflight brings no key
            need_admin()

    @routes.get("/workers")
    def workers() -> Response:
        return _reported(admin.workers())

    @routes.post("/workers/<worker_id>/drain")
    def drain(worker_id: str) -> Response:
        body = parse(DrainBody, _body())
        return _reported(admin.drain(worker_id, hand_back=body.hand_back))

    @routes.post("/workers/<worker_id>/undrain")
    def undrain(worker_id: str) -> Response:
        return _reported(admin.undrain(worker_id))

    @routes.get("/queue")
    def queue() -> Response:
        return _reported(admin.queue())

    @routes.post("/jobs/<job_id>/cancel")
    def cancel(job_id: str) -> Response:
        parts.store.cancel(job_id)
        return answered(parts, parts.store.look(job_id))

    @routes.post("/jobs/<job_id>/requeue")
    def requeue(job_id: str) -> Response:
        admin.requeue(job_id)
        return answered(parts, parts.store.look(job_id))

    @routes.get("/quotas")
    def index() -> Response:
        return _reported(quotas.list())

    @routes.get("/quotas/<owner>")
    def show(owner: str) -> Response:
        return _reported(quotas.show(owner))

    @routes.patch("/quotas/<owner>")
    def limit(owner: str) -> Response:
        return _reported(quotas.limit(owner, parse(Limits, _body())))

    return routes


def _body() -> dict[str, Any]:
    return read_body(request) if request.content_length else {}


def _reported(report: Report) -> Response:
    return jsonify(report.model_dump(mode="json"))
