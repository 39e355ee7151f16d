"""`rushes doctor`: look at everything, try what can be tried, say what mends the rest."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from jobs.settings import Settings
from ops.doctor import devices, proposal
from ops.doctor.exchanges import exchanges
from ops.doctor.finding import Finding, ok, problem
from ops.doctor.host import host
from ops.doctor.problems import recognise
from ops.doctor.size import Size
from ops.doctor.variables import variables
from pipeline.limits import RequestError

_MARKS = {"ok": "ok     ", "warning": "warning", "problem": "PROBLEM"}


@dataclass(frozen=True)
class Questions:
    """What to look at beyond the machine itself."""

    device: str | None = None
    num_gpus: int | None = None
    """Ranks to try exchanges between, and to lay a model out for; None: all devices, on CPU 2."""
    model_path: str | None = None
    """A Diffusers directory or hub id."""
    width: int | None = None
    height: int | None = None
    num_frames: int | None = None
    log: Path | None = None
    timeout_s: float = 30.0


def run_doctor(questions: Questions, settings: Settings, *, as_json: bool) -> int:
    """Say what is found, line by line as it is found; 1 if something cannot work."""
    found = []
    for finding in examine(questions, settings):
        found.append(finding)
        if not as_json:
            _print(finding)
    problems = sum(finding.state == "problem" for finding in found)
    if as_json:
        report = {"ok": not problems, "findings": [dataclasses.asdict(one) for one in found]}
        print(json.dumps(report, indent=2))
    else:
        warnings = sum(finding.state == "warning" for finding in found)
        print(f"\n{problems} problem(s), {warnings} warning(s)")
    return 1 if problems else 0


def examine(questions: Questions, settings: Settings) -> Iterator[Finding]:
    """Every finding, the quick ones first."""
    if questions.log is not None:
        yield from read_log(questions.log)
    yield from host(listen=(settings.host, settings.port), environ=os.environ)
    yield from variables(os.environ)
    details, found = devices.look(questions.device)
    yield from found
    memory_bytes, count = None, 1
    if details:
        yield from devices.describe(details, os.environ)
        accelerated = details["device"] != "cpu"
        count = len(details["devices"]) if accelerated else 2
        memory_bytes = (
            min(one["memory_bytes"] for one in details["devices"]) if accelerated else None
        )
        ranks = questions.num_gpus or count
        if accelerated and ranks > count:
            fix = "fewer --num-gpus, or more ids in the visibility mask"
            yield problem("device", f"{ranks} devices asked for, {count} seen", fix)
        elif ranks > 1:
            yield from exchanges(ranks, details["device"], questions.timeout_s)
    if questions.model_path is not None:
        size = Size(questions.width, questions.height, questions.num_frames)
        try:
            model = proposal.Architecture.find(questions.model_path, size)
        except RequestError as error:
            yield problem("layout", str(error), f"another --{error.field.replace('_', '-')}")
        except ValueError as error:
            yield problem(
                "model",
                str(error),
                "--model-path: a Diffusers directory on this machine, or a hub id",
            )
        else:
            yield from proposal.propose(model, questions.num_gpus or count, memory_bytes)


def read_log(file: Path) -> Iterator[Finding]:
    """The known problems that a log tells of."""
    try:
        text = file.read_text(errors="replace")
    except OSError as error:
        yield problem("log", str(error), "--log: a file of ~/.rushes/logs, say")
        return
    known = recognise(text)
    if not known:
        yield ok("log", f"no known problem in {file}")
    for one in known:
        yield problem("log", f"{one.name}: {one.cause}", "\n".join(one.fix))


def _print(finding: Finding) -> None:
    lines = finding.what.splitlines()
    print(f"{_MARKS[finding.state]} {finding.area}: {lines[0]}")
    for line in lines[1:]:
        print(f"            {line}")
    for line in finding.fix.splitlines():
        print(f"          > {line}")
    sys.stdout.flush()
