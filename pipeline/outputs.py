"""Where finished files of a `generate` call go."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from pipeline.limits import RequestError
from pipeline.request import Request, Workload

SUFFIX: dict[Workload, str] = {"t2v": ".mp4", "t2i": ".png"}


def plan_paths(output_path: str | Path, requests: Sequence[Request]) -> list[Path]:
    """One path a request, in order, no two alike.

    `output_path` with a video's or an image's suffix is the file itself, numbered if there are
    several; anything else is a directory, and the files in it are named after prompt and seed.

    Raises:
        RequestError: a suffix that does not fit what is generated.
    """
    target = Path(output_path).expanduser()
    if target.suffix.lower() not in SUFFIX.values():
        stems = [target / f"{_slug(request.prompt)}-{request.seed}" for request in requests]
    else:
        for request in requests:
            if target.suffix.lower() != SUFFIX[request.workload]:
                raise RequestError(
                    "output_path", str(target), f"must end in {SUFFIX[request.workload]}"
                )
        stems = [target.with_suffix("")] * len(requests)
    paths = []
    for index, (stem, request) in enumerate(zip(stems, requests, strict=True)):
        number = f"-{stems[:index].count(stem) + 1}" if stems.count(stem) > 1 else ""
        paths.append(stem.with_name(f"{stem.name}{number}{SUFFIX[request.workload]}"))
    return paths


def _slug(prompt: str) -> str:
    """The prompt's first words, safe in a file name."""
    return re.sub(r"[^a-z0-9]+", "-", prompt.lower())[:48].strip("-") or "output"
