"""Headers of every answer: security, CORS where it is set, what is left of a rate."""

from __future__ import annotations

from flask import Flask, Response, g, request

from jobs.settings import Settings

SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
_CORS_METHODS = "GET, HEAD, POST, PATCH, DELETE"
_CORS_HEADERS = "Authorization, Content-Type, Idempotency-Key, Prefer, Range, X-Request-Id"
_CORS_EXPOSED = (
    "Accept-Ranges, Content-Disposition, Content-Range, ETag, Location, openai-poll-after-ms, "
    "Preference-Applied, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id"
)


def install(app: Flask, settings: Settings) -> None:
    """Set them after each request; a view's own value stays."""
    origins = allowed_origins(settings)

    @app.after_request
    def finish(response: Response) -> Response:
        for name, value in SECURITY.items():
            response.headers.setdefault(name, value)
        response.headers.extend(g.get("rate_headers", {}))
        if origins:
            _allow(response, origins)
        return response


def allowed_origins(settings: Settings) -> set[str]:
    """RUSHES_CORS_ORIGINS, one by one; `*` stands for all."""
    return {each.strip() for each in settings.cors_origins.split(",") if each.strip()}


def _allow(response: Response, origins: set[str]) -> None:
    response.headers.add("vary", "Origin")
    origin = request.headers.get("origin", "")
    if not origin or ("*" not in origins and origin not in origins):
        return
    response.headers["access-control-allow-origin"] = "*" if "*" in origins else origin
    response.headers["access-control-expose-headers"] = _CORS_EXPOSED
    response.headers["cross-origin-resource-policy"] = "cross-origin"
    if request.method == "OPTIONS" and "access-control-request-method" in request.headers:
        response.headers["access-control-allow-methods"] = _CORS_METHODS
        response.headers["access-control-allow-headers"] = _CORS_HEADERS
        response.headers["access-control-max-age"] = "600"
