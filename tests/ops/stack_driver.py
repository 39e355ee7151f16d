"""Runs a Supervisor over small parts: `python -m tests.ops.stack_driver FOLDER STAGES_JSON`.

A part is [name, shell script, stop_s]; a script says when it is ready by making `<name>.ready`.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from pathlib import Path

from ops.stack.logs import Logs
from ops.stack.part import Part
from ops.stack.supervisor import Supervisor


def _is_ready(flag: Path, _pid: int) -> bool:
    return flag.exists()


def _note_death(deaths: Path, pid: int) -> None:
    with deaths.open("a") as file:
        file.write(f"{pid}\n")


def main(folder: Path, stages: list[list[tuple[str, str, float]]]) -> int:
    parts = [
        [
            Part(
                name=name,
                command=("/bin/sh", "-c", script),
                env={**os.environ, "FOLDER": str(folder)},
                ready=partial(_is_ready, folder / f"{name}.ready"),
                died=partial(_note_death, folder / "deaths"),
                ready_s=20.0,
                stop_s=stop_s,
            )
            for name, script, stop_s in stage
        ]
        for stage in stages
    ]
    names = [name for stage in stages for name, _, _ in stage]
    logs = Logs(["driver", *names], folder / "logs")
    supervisor = Supervisor(parts, logs, name="driver")
    try:
        return supervisor.run(lambda: supervisor.say("all ready"))
    finally:
        logs.close()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
