"""A request's body, JSON or multipart, as one flat dict. What it means is pydantic's business."""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import Any, NoReturn

from flask import Request
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import UnsupportedMediaType
from werkzeug.formparser import FormDataParser

from api.given import Upload
from pipeline.limits import RequestError


class StrictFormParser(FormDataParser):
    """Werkzeug's parser takes a malformed form for an empty one; this one raises ValueError."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.silent = False


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
        return _read_multipart(request, several)
    raise UnsupportedMediaType(
        f"content-type must be application/json or multipart/form-data, got {kind or 'none'!r}"
    )


def _read_json(data: bytes) -> dict[str, Any]:
    try:
        body = json.loads(data, object_pairs_hook=_unique, parse_constant=_no_constant)
    except RecursionError:
        raise RequestError("body", None, "is nested too deeply") from None
    except ValueError as error:  # also bytes that are no UTF-8, and integers beyond all measure
        raise RequestError("body", None, f"is malformed JSON: {error}") from None
    if not isinstance(body, dict):
        raise RequestError("body", body, "must be a JSON object")
    return body


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    body = dict(pairs)
    if len(body) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise RequestError(twice, None, "must be given once")
    for name, value in pairs:
        # JSON can spell half a character ("\\ud800"); nothing behind us can store it.
        if not (_is_text(name) and (not isinstance(value, str) or _is_text(value))):
            field = name.encode("ascii", "backslashreplace").decode()
            raise RequestError(field, None, "must be whole Unicode characters, no lone surrogates")
    return body


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _read_multipart(request: Request, several: Collection[str]) -> dict[str, Any]:
    try:
        form, files = request.form, request.files
    except ValueError as error:
        raise RequestError("body", None, f"is malformed multipart: {error}") from None
    for name, value in form.items(multi=True):
        if "\ufffd" in f"{name}{value}":  # what Werkzeug puts for bytes that it cannot decode
            raise RequestError(name, None, "must be UTF-8 text")
    if twice := [name for name in form if name in files]:
        raise RequestError(twice[0], None, "must be given once")
    lists = {name: _uploads(files.getlist(name)) for name in files if name in several}
    single = _only_once(files, several).items()
    return _only_once(form) | lists | {name: _uploads([file])[0] for name, file in single}


def _uploads(files: list[FileStorage]) -> list[Upload]:
    # What a client calls its file is nobody's business here.
    return [Upload(file.stream.read()) for file in files]


def _only_once(fields: MultiDict[str, Any], several: Collection[str] = ()) -> dict[str, Any]:
    for name, values in fields.lists():
        if len(values) > 1 and name not in several:
            raise RequestError(name, None, f"must be given once, was given {len(values)} times")
    return {name: value for name, value in fields.items() if name not in several}
