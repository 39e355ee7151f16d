"""Which bytes of a file a request gets: its conditions first, then Range (RFC 9110, 13.2.2 and 14).

Werkzeug reads the headers. Its `make_conditional` weighs Range before If-None-Match, gives parts to
HEAD, takes a weak If-Range for a match and `If-Match: *` for none: so the weighing is ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus

from flask import Request
from werkzeug.exceptions import PreconditionFailed, RequestedRangeNotSatisfiable


@dataclass(frozen=True)
class Part:
    """What is sent of a file."""

    status: HTTPStatus
    """OK, PARTIAL_CONTENT or NOT_MODIFIED."""
    start: int
    stop: int
    """The first byte that is not sent any more."""


def part_for(request: Request, *, etag: str, size: int) -> Part:
    """What a GET or HEAD gets of a file of `size` bytes with the strong tag `etag`.

    Raises:
        PreconditionFailed: If-Match names other files.
        RequestedRangeNotSatisfiable: the range begins past the end.
    """
    if "if-match" in request.headers and not request.if_match.contains(etag):
        raise PreconditionFailed(f'If-Match does not name this file: it is "{etag}"')
    if request.if_none_match.contains_weak(etag):
        return Part(HTTPStatus.NOT_MODIFIED, 0, 0)
    asked = _range(request, etag)
    if asked is None:
        return Part(HTTPStatus.OK, 0, size)
    start, stop = asked
    if start < 0:  # counted from the end
        start = max(0, size + start)
    stop = size if stop is None else min(stop, size)
    if start >= stop:
        raise RequestedRangeNotSatisfiable(size)
    return Part(HTTPStatus.PARTIAL_CONTENT, start, stop)


def _range(request: Request, etag: str) -> tuple[int, int | None] | None:
    """The one range of bytes that is asked for; any other Range is to be ignored."""
    ranges = request.range if request.method == "GET" else None
    if ranges is None or ranges.units != "bytes" or len(ranges.ranges) != 1:
        return None
    if request.headers.get("if-range", f'"{etag}"').strip() != f'"{etag}"':
        return None  # also a weak tag, or a date: neither says that the bytes are the same
    return ranges.ranges[0]
