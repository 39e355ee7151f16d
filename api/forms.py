"""A multipart form as the object that it spells: `metadata[a]` is a field of one, `events[]` a list."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from typing import Any

from flask import Request
from werkzeug.formparser import FormDataParser

from api.given import Upload
from pipeline.limits import RequestError

_NAME = re.compile(r"([^\[\]]+)((?:\[[^\[\]]+\]){0,3})(\[\])?")
"""As OpenAI's SDK writes objects and lists: `field[key][key][]`."""
_OBJECTS = ("metadata", "extra_body")


class StrictFormParser(FormDataParser):
    """Werkzeug's parser takes a malformed form for an empty one; this one raises ValueError."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.silent = False


def read_form(request: Request, several: Collection[str]) -> dict[str, Any]:
    """The form's fields; files as `Upload`, those named in `several` as lists of all that were given.

    Raises:
        RequestError: malformed, a field given twice, or a name that cannot be told from its object's.
        RequestEntityTooLarge: more than `max_body_bytes`.
    """
    body: dict[str, Any] = {}
    for name, values in _fields(request):
        match = _NAME.fullmatch(name)
        head = name.partition("[")[0]
        if not match and head in _OBJECTS:
            allowed = f"may hold no name with brackets in a form: send {head} as JSON text"
            raise RequestError(head, name, allowed)
        path = [match[1], *re.findall(r"[^\[\]]+", match[2])] if match else [name]
        listed = name in several or (match is not None and match[3] is not None)
        if len(values) > 1 and not listed:
            raise RequestError(name, None, f"must be given once, was given {len(values)} times")
        at: Any = body
        for key in path[:-1]:
            at = at.setdefault(key, {}) if isinstance(at, dict) else None
        if not isinstance(at, dict) or path[-1] in at:
            raise RequestError(name, None, "must be given once, was given in two ways")
        at[path[-1]] = values if listed else values[0]
    return body


def _fields(request: Request) -> Iterator[tuple[str, list[Any]]]:
    try:
        form, files = request.form, request.files
    except ValueError as error:
        raise RequestError("body", None, f"is malformed multipart: {error}") from None
    for name, texts in form.lists():
        if any("\ufffd" in text for text in (name, *texts)):  # what Werkzeug cannot decode
            raise RequestError(name, None, "must be UTF-8 text")
        yield name, texts
    for name, uploads in files.lists():
        # What a client calls its file is nobody's business here.
        yield name, [Upload(file.stream.read()) for file in uploads]
