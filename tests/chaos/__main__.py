"""`python -m tests.chaos --faults N --seed S`: strike, judge, show a table, write JSON; 1 when anything broke.

With `--planted NAME` it runs a copy of the code with that bug in it: 1 when nothing caught it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from rich.console import Console

from tests.chaos.faults import FAULTS, Fault
from tests.chaos.planted import PLANTS, plant
from tests.chaos.report import show, write
from tests.chaos.run import Outcome, run

PLANTED_FAULTS = 6


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=40, help="how many to strike")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", default=[], help="kinds whose name holds this")
    parser.add_argument("--planted", choices=sorted(PLANTS))
    parser.add_argument("--out", type=Path, default=Path("chaos.json"))
    args = parser.parse_args()
    console = Console(width=110)
    if args.planted:
        return _planted(args.planted, args.seed, console)
    only = args.only or [""]
    kinds = [fault for fault in FAULTS if any(text in fault.name for text in only)]
    outcome = run(args.seed, args.faults, kinds=kinds, say=_say)
    _show(outcome, console, args.out)
    return 1 if outcome.violations else 0


def _planted(name: str, seed: int, console: Console) -> int:
    bug = PLANTS[name]
    kinds: list[Fault] = [fault for fault in FAULTS if fault.name in bug.faults]
    with tempfile.TemporaryDirectory(prefix="rushes-planted-") as folder:
        tree = plant(name, Path(folder))
        outcome = run(seed, PLANTED_FAULTS, kinds=kinds, tree=tree, say=_say)
    show(outcome, console)
    caught = {violation.invariant for violation in outcome.violations} & bug.caught_by
    console.print(f"planted bug {name}: caught by {', '.join(sorted(caught)) or 'NOTHING'}")
    return 0 if caught else 1


def _show(outcome: Outcome, console: Console, path: Path) -> None:
    show(outcome, console)
    write(outcome, path)


def _say(line: str) -> None:
    print(line, flush=True)


if __name__ == "__main__":
    sys.exit(main())
