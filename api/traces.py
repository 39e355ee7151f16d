"""The request's span, where tracing is on: of what changes something, for polls would drown it."""

from __future__ import annotations

from flask import Flask, Response, g, request

from jobs.tracing import Span, Tracing


def install(app: Flask, tracing: Tracing) -> None:
    """Trace every POST under /v1, as a part of the client's own trace where it sends one."""
    if not tracing.on:
        return

    @app.before_request
    def begin() -> None:
        if request.method == "POST" and request.path.startswith("/v1/"):
            route = request.url_rule.rule if request.url_rule else "unknown"
            g.span = tracing.start(
                f"POST {route}",
                parent=request.headers.get("traceparent"),
                kind="server",
                attributes={
                    "http.request.method": "POST",
                    "http.route": route,
                    "request.id": g.request_id,
                },
            )

    @app.after_request
    def end(response: Response) -> Response:
        span = span_of_request()
        span.note({"http.response.status_code": response.status_code})
        span.end(error=g.get("error_code", "") if response.status_code >= 500 else "")
        return response


def span_of_request() -> Span:
    """This request's; one that is not recorded where it is not traced."""
    found: Span = g.get("span") or Span()
    return found
