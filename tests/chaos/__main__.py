"""`python -m tests.chaos --faults N --seed S`: strike, judge, show a table, write JSON; 1 when anything broke."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from rich.console import Console

from tests.chaos.faults import FAULTS
from tests.chaos.report import show, write
from tests.chaos.run import run


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=40, help="how many to strike")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", default=[], help="kinds whose name holds this")
    parser.add_argument("--out", type=Path, default=Path("chaos.json"))
    args = parser.parse_args()
    kinds = [fault for fault in FAULTS if not args.only or any(o in fault.name for o in args.only)]
    outcome = run(args.seed, args.faults, kinds=kinds, say=lambda line: print(line, flush=True))
    show(outcome, Console(width=110))
    write(outcome, args.out)
    return 1 if outcome.violations else 0


if __name__ == "__main__":
    sys.exit(main())
