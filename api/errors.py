"""Every error as OpenAI gives it: {"error": {"message", "type", "param", "code"}}."""

from __future__ import annotations

from contextlib import suppress

import structlog
from flask import Flask, Response, g, jsonify, request
from werkzeug.exceptions import HTTPException

from jobs.errors import OverBudget, RushesError, StorageUnavailable, StoreUnavailable
from jobs.meter import Meter
from pipeline.limits import RequestError

CREATES = frozenset(
    {
        "videos.create",
        "videos.remix",
        "video_jobs.retry",
        "images.create",
        "images.edit",
        "image_jobs.retry",
    }
)
"""The endpoints that make a job."""
_log = structlog.get_logger("api")


def install(app: Flask, meter: Meter) -> None:
    """Answer every exception that leaves a view, and count the creates that were refused."""

    @app.after_request
    def count(response: Response) -> Response:
        code = g.get("error_code")
        # An image that failed or is late was accepted, whatever its answer says.
        if code is not None and request.endpoint in CREATES and not g.get("accepted"):
            with suppress(StoreUnavailable):
                meter.count("refused", code)
        return response

    app.register_error_handler(RequestError, _bad_request)
    app.register_error_handler(RushesError, _ours)
    app.register_error_handler(HTTPException, _http)
    app.register_error_handler(Exception, _unexpected)


def _bad_request(error: RequestError) -> Response:
    return problem(400, str(error), "invalid_value", param=error.field)


def _ours(error: RushesError) -> Response:
    message = str(error)
    if isinstance(error, StoreUnavailable | StorageUnavailable):
        # Where Redis or S3 is and how it failed is ours to know.
        _log.error(error.code, reason=message)
        message = f"the {error.code.split('_')[0]} is not available now"
    elif error.status == 500:
        return _unexpected(error)
    answer = problem(error.status, message, error.code, param=error.param)
    if error.status == 401:
        answer.headers["www-authenticate"] = "Bearer"
    if isinstance(error, OverBudget):
        answer.headers["x-should-retry"] = "false"  # the SDK would, long before the day is over
    if error.retry_after_s is not None:
        answer.headers["retry-after"] = str(error.retry_after_s)
    return answer


def _http(error: HTTPException) -> Response:
    status = error.code or 500
    message = error.description or error.name
    if status == 404:
        message = f"no route {request.method} {request.path}"
    elif status == 405:
        message = f"{request.path} does not take {request.method}"
    elif status == 413:
        message = f"the body must have at most {request.max_content_length} bytes"
    answer = problem(status, message, error.name.lower().replace(" ", "_"))
    for name, value in error.get_headers(request.environ):
        if name.lower() not in ("content-type", "content-length"):
            answer.headers[name] = value  # Allow of a 405, Content-Range of a 416
    return answer


def _unexpected(error: Exception) -> Response:
    _log.error("unexpected error", exc_info=error)
    return problem(
        500, "an unexpected error; the log has it under this request's id", "internal_error"
    )


def problem(
    status: int, message: str, code: str, *, param: str | None = None, **more: str
) -> Response:
    """An error as OpenAI gives it, with `more` beside."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    if status == 429:
        kind = "rate_limit_error"
    g.error_code = code
    answer = jsonify(error={"message": message, "type": kind, "param": param, "code": code, **more})
    answer.status_code = status
    if status == 409:
        # The SDK retries 409; no retry changes a state that does not allow the call.
        answer.headers["x-should-retry"] = "false"
    return answer
