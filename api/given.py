"""An input image as a client gives it: a file of a form, a data URL, or the URL of one."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import (
    BeforeValidator,
    Field,
    InstanceOf,
    PlainSerializer,
    ValidationInfo,
    WithJsonSchema,
)

from pipeline.limits import RequestError


@dataclass(frozen=True, repr=False)
class Upload:
    """Bytes that came with the request."""

    data: bytes

    def __repr__(self) -> str:
        return f"a file of {len(self.data)} bytes"

    def __str__(self) -> str:
        return f"sha256:{hashlib.sha256(self.data).hexdigest()}"


@dataclass(frozen=True)
class Link:
    """Where the bytes are."""

    url: str = field(repr=False)

    def __str__(self) -> str:
        return self.url


def _given(value: object, info: ValidationInfo) -> Upload | Link:
    """Read one image in whichever form.

    Raises:
        RequestError: none of them.
    """
    name = info.field_name or "image"
    if isinstance(value, Upload):
        return value
    if isinstance(value, dict):  # OpenAI's {"image_url": ...}
        if "file_id" in value:
            raise RequestError(name, None, "cannot be a file_id: this server keeps no files")
        if value.keys() != {"image_url"}:
            raise RequestError(name, None, 'must be a string, or an object {"image_url": ...}')
        value = value["image_url"]
    if isinstance(value, str) and value[:5].lower() == "data:":
        return _data_url(value, name)
    if isinstance(value, str) and value[:8].lower().startswith(("http://", "https://")):
        return Link(value)
    raise RequestError(
        name, None, "must be a file of a form, a data URL, or an http or https URL of an image"
    )


def _data_url(text: str, name: str) -> Upload:
    head, comma, data = text.partition(",")
    if not comma or not head.lower().endswith(";base64"):
        raise RequestError(name, None, "must read data:image/png;base64,... if it is a data URL")
    try:
        return Upload(base64.b64decode(data, validate=True))
    except ValueError:
        raise RequestError(name, None, "is a data URL of broken base64") from None


def _as_list(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


_SCHEMA = {"type": "string", "description": "A file (multipart), a data URL or an http(s) URL."}

Given = Annotated[
    InstanceOf[Upload] | InstanceOf[Link],
    BeforeValidator(_given),
    # Idempotency keys stand for the bytes, by their hash.
    PlainSerializer(str, return_type=str),
    WithJsonSchema(_SCHEMA),
]
"""One input image."""

Several = Annotated[
    tuple[Given, ...],
    BeforeValidator(_as_list),
    Field(min_length=1),  # at most as many as the model takes, which `resolve` says
    WithJsonSchema({"anyOf": [_SCHEMA, {"type": "array", "items": _SCHEMA}]}),
]
"""One or several of them."""
