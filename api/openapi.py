"""/openapi.json (OpenAPI 3.1), made from the models that validate, and /docs, the same for people."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from flask import Blueprint, Response, jsonify, render_template
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api import fields, objects
from api.door import GUARDED
from jobs import reports
from jobs.quotas import Limits

_REF = "#/components/schemas/{model}"
_FILES = {"input_reference", "image"}
"""Fields that may be files of a form."""
_IMAGES = "image/png, image/jpeg, image/webp"
_ERRORS = {
    "400": "A value that may not be: `param` names it.",
    "401": "No API key, or none that is known.",
    "403": "The key's scope does not allow it.",
    "404": "No such job, model or route, or not yours.",
    "408": "The body did not arrive in time.",
    "409": "The job's state, or an Idempotency-Key, does not allow it.",
    "413": "The body is too long.",
    "415": "The body is neither JSON nor multipart.",
    "429": "A limit is reached; `Retry-After` says when to come back.",
    "500": "Our fault, or an image that failed.",
    "503": "Something does not answer now; `Retry-After` says when to come back.",
    "504": "The image is not there yet; its job goes on under `error.id`.",
}


_OPTIONAL = (fields.RetryBody, fields.DrainBody, Limits)
"""Bodies that may be left out."""


@dataclass(frozen=True)
class Operation:
    """One route as the document has it."""

    method: str
    path: str
    summary: str
    answer: type[BaseModel] | str
    """A model, or the media type of what is no JSON object of ours."""
    body: type[BaseModel] | None = None
    query: type[BaseModel] | None = None
    status: str = "200"
    creates: bool = False


def _jobs(kind: str) -> list[Operation]:
    path, job = f"/v1/{kind}s", f"/v1/{kind}s/{{job_id}}"
    return [
        Operation("get", path, "One's jobs", objects.JobList, query=fields.ListQuery),
        Operation("get", job, "A job", objects.JobObject),
        Operation("delete", job, "Cancel where needed, then delete", objects.Deleted),
        Operation("post", f"{job}/cancel", "Cancel", objects.JobObject),
        Operation(
            "post", f"{job}/retry", "The same once more", objects.JobObject,
            body=fields.RetryBody, creates=True,
        ),
        Operation("get", f"{job}/content", "The file", "*/*", query=fields.ContentQuery),
        Operation("get", f"{job}/deliveries", "Its webhooks", objects.WebhookDeliveries),
        Operation(
            "post", f"{job}/deliveries/{{webhook_id}}/replay", "Send a webhook once more",
            objects.WebhookDelivery,
        ),
        Operation("get", f"{job}/events", "Server-sent events", "text/event-stream"),
    ]  # fmt: skip


OPERATIONS = (
    Operation(
        "post", "/v1/videos", "A new video", objects.JobObject, body=fields.VideoBody, creates=True
    ),
    Operation(
        "post", "/v1/videos/generations", "The same", objects.JobObject,
        body=fields.VideoBody, creates=True,
    ),
    Operation(
        "post", "/v1/videos/{job_id}/remix", "The old request with another prompt",
        objects.JobObject, body=fields.RemixBody, creates=True,
    ),
    *_jobs("video"),
    Operation(
        "post", "/v1/images/generations", "A new image", objects.Images,
        body=fields.ImageBody, creates=True,
    ),
    Operation(
        "post", "/v1/images/edits", "A new image made of others", objects.Images,
        body=fields.EditBody, creates=True,
    ),
    *_jobs("image"),
    Operation("get", "/v1/admin/workers", "Live workers", reports.WorkersReport),
    Operation(
        "post", "/v1/admin/workers/{worker_id}/drain", "Take no more jobs",
        reports.WorkerReport, body=fields.DrainBody,
    ),
    Operation(
        "post", "/v1/admin/workers/{worker_id}/undrain", "Take jobs again", reports.WorkerReport
    ),
    Operation("get", "/v1/admin/queue", "All owners' jobs", reports.QueueReport),
    Operation("post", "/v1/admin/jobs/{job_id}/cancel", "Anybody's job", objects.JobObject),
    Operation(
        "post", "/v1/admin/jobs/{job_id}/requeue", "From its worker to the queue", objects.JobObject
    ),
    Operation("get", "/v1/admin/quotas", "Limits and use", reports.QuotasReport),
    Operation("get", "/v1/admin/quotas/{owner}", "One key's", reports.QuotaReport),
    Operation(
        "patch", "/v1/admin/quotas/{owner}", "Change limits", reports.QuotaReport, body=Limits
    ),
    Operation("get", "/v1/models", "Served models", objects.ModelList),
    Operation("get", "/v1/models/{model}", "One of them", objects.ModelObject),
    Operation("get", "/v1/model_info", "The same, and its path", objects.ModelInfo, query=fields.ModelQuery),
    Operation("get", "/health", "What runs; 200 once a gang is ready", "application/json"),
    Operation("get", "/livez", "The process answers", "application/json"),
    Operation("get", "/readyz", "Redis answers", "application/json"),
    Operation("get", "/metrics", "For Prometheus", "text/plain"),
    Operation("get", "/openapi.json", "This document", "application/json"),
    Operation("get", "/docs", "This document for people", "text/html"),
)  # fmt: skip


def blueprint() -> Blueprint:
    """The two routes."""
    routes = Blueprint("openapi", __name__)

    @routes.get("/openapi.json")
    def document_() -> Response:
        return jsonify(document())

    @routes.get("/docs")
    def docs() -> Response:
        page = Response(render_template("docs.html", document=document()))
        policy = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"
        page.headers["content-security-policy"] = policy
        return page

    return routes


def document() -> dict[str, Any]:
    """The whole document."""
    models = {each for op in OPERATIONS for each in (op.answer, op.body) if isinstance(each, type)}
    ordered = sorted(models | {objects.ErrorAnswer}, key=lambda model: model.__name__)
    _, schemas = models_json_schema([(model, "validation") for model in ordered], ref_template=_REF)
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _described(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Rushes", "version": version("rushes")},
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
        # As long as there are no keys, anybody gets in.
        "security": [{"key": []}, {}],
    }


def _described(operation: Operation) -> dict[str, Any]:
    described: dict[str, Any] = {
        "operationId": re.sub(r"\W+", "_", f"{operation.method}{operation.path}").strip("_"),
        "summary": operation.summary,
        "parameters": _parameters(operation),
        "responses": _responses(operation),
    }
    if not operation.path.startswith(GUARDED):
        described["security"] = []
    if operation.body is not None:
        schema = {"$ref": _REF.format(model=operation.body.__name__)}
        form: dict[str, Any] = {"schema": schema}
        if files := operation.body.model_fields.keys() & _FILES:
            form["encoding"] = {name: {"contentType": _IMAGES} for name in files}
        described["requestBody"] = {
            "required": operation.body not in _OPTIONAL,
            "content": {"application/json": {"schema": schema}, "multipart/form-data": form},
        }
    return described


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found = []
    if "{job_id}" in operation.path:
        kind = operation.path.split("/")[2].removesuffix("s")
        kind = "(video|image)" if kind == "admin" else kind
        schema = {"type": "string", "pattern": rf"^{kind}_[0-7][0-9A-HJKMNP-TV-Z]{{25}}$"}
        found.append({"name": "job_id", "in": "path", "required": True, "schema": schema})
    for name in ("webhook_id", "worker_id", "owner", "model"):
        if f"{{{name}}}" in operation.path:
            schema = {"type": "string", "pattern": "^.+$"}
            found.append({"name": name, "in": "path", "required": True, "schema": schema})
    if operation.query is not None:
        whole = operation.query.model_json_schema()
        for name, schema in whole["properties"].items():
            inlined = _inlined(schema, whole.get("$defs", {}))
            found.append({"name": name, "in": "query", "required": False, "schema": inlined})
    if operation.creates:
        key = {"type": "string", "pattern": r"^[\x21-\x7e]{1,255}$"}
        found.append({"name": "Idempotency-Key", "in": "header", "schema": key})
        found.append({"name": "Prefer", "in": "header", "schema": {"type": "string"}})
    return found


def _inlined(schema: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A query has no null: what may be left out is simply left out."""
    kinds = [each for each in schema.get("anyOf", []) if each.get("type") != "null"]
    plain = {name: value for name, value in schema.items() if name not in ("anyOf", "default")}
    for kind in kinds or [schema]:
        reference = kind.get("$ref")
        plain |= definitions[reference.rpartition("/")[2]] if reference else kind
    return {name: value for name, value in plain.items() if value is not None}


def _responses(operation: Operation) -> dict[str, Any]:
    if isinstance(operation.answer, str):
        content: dict[str, Any] = {operation.answer: {}}
    else:
        content = {
            "application/json": {"schema": {"$ref": _REF.format(model=operation.answer.__name__)}}
        }
    answers: dict[str, Any] = {operation.status: {"description": "Done.", "content": content}}
    if operation.creates:
        job = {"application/json": {"schema": {"$ref": _REF.format(model="JobObject")}}}
        answers["202"] = {"description": "A job, as `Prefer: respond-async` asks.", "content": job}
    error: dict[str, Any] = {
        "application/json": {"schema": {"$ref": _REF.format(model="ErrorAnswer")}}
    }
    if operation.path.endswith("/content"):
        answers |= {
            "206": {"description": "The part that Range names.", "content": content},
            "302": {"description": "To a presigned link."},
            "304": {"description": "Not modified."},
            "412": {"description": "If-Match names another file.", "content": error},
            "416": {"description": "No such range.", "content": error},
        }
    if operation.path == "/health":
        error = {"application/json": {}}
    answers |= {status: {"description": text, "content": error} for status, text in _ERRORS.items()}
    return answers
