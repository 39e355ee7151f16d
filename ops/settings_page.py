"""docs/SETTINGS.md, made from the settings class: `python -m ops.settings_page > docs/SETTINGS.md`."""

from __future__ import annotations

import typing

from annotated_types import Ge, Gt, Le
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from jobs.settings import Settings

HEAD = """\
# Settings

Every setting is an environment variable; all processes of one service read the same. What a model is
and how its gangs run is said on the command line (`rushes serve --help`). A value that cannot be, or
that contradicts another, stops start-up with one line; so does a `RUSHES_*` that is no setting. In
Kubernetes, set `enableServiceLinks: false` in the pod: a service named `rushes-...` would put such
variables into it.

This page is made from `jobs/settings.py` by `python -m ops.settings_page > docs/SETTINGS.md`; a test
holds them together.

| variable | default | what |
|---|---|---|
"""


def page() -> str:
    """The whole page."""
    return HEAD + "".join(_row(name, field) for name, field in Settings.model_fields.items())


def _row(name: str, field: FieldInfo) -> str:
    what = [" ".join((field.description or "").split()), _allowed(field)]
    default = "" if field.default in (None, PydanticUndefined, "") else f"`{_plain(field.default)}`"
    return f"| `RUSHES_{name.upper()}` | {default} | {' '.join(filter(None, what))} |\n"


def _plain(value: object) -> str:
    if isinstance(value, bool):
        return "1" if value else "0"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _allowed(field: FieldInfo) -> str:
    if typing.get_origin(field.annotation) is typing.Literal:
        return f"One of {', '.join(typing.get_args(field.annotation))}."
    bounds = []
    for bound in field.metadata:
        if isinstance(bound, Ge):
            bounds.append(f"at least {bound.ge}")
        elif isinstance(bound, Gt):
            bounds.append(f"more than {bound.gt}")
        elif isinstance(bound, Le):
            bounds.append(f"at most {bound.le}")
    return f"{', '.join(bounds).capitalize()}." if bounds else ""


if __name__ == "__main__":
    print(page(), end="")
