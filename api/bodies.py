"""A request's body, JSON or multipart, and its query, as dicts. What they mean is pydantic's business."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, NoReturn

from flask import Request
from werkzeug.exceptions import UnsupportedMediaType

from api.forms import read_form
from pipeline.limits import RequestError

_WHOLE = "must be whole Unicode characters, no lone surrogates"
"""JSON can spell half a character ("\\ud800"); nothing behind us can store it."""


def read_body(request: Request, *, several: Collection[str] = ()) -> dict[str, Any]:
    """The body's fields; files as `Upload`, those named in `several` as lists of them.

    Raises:
        RequestError: malformed, no object, or a field given twice.
        UnsupportedMediaType: neither JSON nor multipart.
        RequestEntityTooLarge: more than `max_body_bytes`.
    """
    kind = request.mimetype
    if kind == "application/json" or (kind.startswith("application/") and kind.endswith("+json")):
        data = request.stream.read()
        request.stream.read(1)  # raises 413 where a chunked body was cut at the limit
        return _read_json(data)
    if kind == "multipart/form-data":
        return read_form(request, several)
    raise UnsupportedMediaType(
        f"content-type must be application/json or multipart/form-data, got {kind or 'none'!r}"
    )


def read_query(request: Request) -> dict[str, str]:
    """The query's fields.

    Raises:
        RequestError: one is given twice.
    """
    for name, values in request.args.lists():
        if len(values) > 1:
            raise RequestError(name, None, f"must be given once, was given {len(values)} times")
    return request.args.to_dict()


class _Pairs(list[tuple[str, Any]]):
    """A JSON object as it is spelled."""


def _read_json(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data, object_pairs_hook=_Pairs, parse_constant=_no_constant)
        if not isinstance(body, _Pairs):
            raise RequestError("body", _plain(body, "body"), "must be a JSON object")
        return _object(body)
    except RecursionError:
        raise RequestError("body", None, "is nested too deeply") from None
    except ValueError as error:  # also bytes that are no UTF-8, and integers beyond all measure
        raise RequestError("body", None, f"is malformed JSON: {error}") from None


def _object(pairs: _Pairs, prefix: str = "") -> dict[str, Any]:
    body: dict[str, Any] = {}
    for name, value in pairs:
        field = prefix + name.encode("utf-8", "backslashreplace").decode()
        if name in body:
            raise RequestError(field, None, "must be given once")
        if not _is_text(name):
            raise RequestError(field, None, _WHOLE)
        body[name] = _plain(value, field)
    return body


def _plain(value: Any, field: str) -> Any:
    if isinstance(value, _Pairs):
        return _object(value, f"{field}.")
    if isinstance(value, list):
        return [_plain(each, f"{field}.{index}") for index, each in enumerate(value)]
    if isinstance(value, str) and not _is_text(value):
        raise RequestError(field, None, _WHOLE)
    return value


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")
