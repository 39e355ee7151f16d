"""The page at `/`: static HTML and modules of JavaScript that call the API like any other client."""

from __future__ import annotations

from flask import Blueprint, Response

# Everything comes from here, and what is made comes as blobs: a key goes in headers, never in a URL.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "media-src blob:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)


def blueprint() -> Blueprint:
    """`/`, and what it loads below `/page`."""
    page = Blueprint("page", __name__, static_folder="static", static_url_path="/page")

    @page.get("/")
    def index() -> Response:
        answer = page.send_static_file("index.html")
        answer.headers["content-security-policy"] = POLICY
        return answer

    @page.after_request
    def let_go(answer: Response) -> Response:
        if answer.status_code == 304:
            answer.close()  # Werkzeug leaves open the file that it does not send
        return answer

    return page
