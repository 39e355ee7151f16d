"""What a run came to, as a table for people and as JSON."""

from __future__ import annotations

import json
import statistics
from collections import Counter, defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.chaos.recovery import Strike
from tests.chaos.run import Outcome


def show(outcome: Outcome, console: Console) -> None:
    """The table by fault, and what was violated."""
    table = Table(title=f"chaos, seed {outcome.seed}: {len(outcome.strikes)} faults")
    table.add_column("fault")
    for name in ("count", "lost", "doubled", "median s", "worst s"):
        table.add_column(name, justify="right")
    for row in rows(outcome):
        table.add_row(*row)
    console.print(table)
    ends = ", ".join(f"{count} {state}" for state, count in sorted(outcome.ends.items()))
    console.print(f"jobs: {ends}; {outcome.took_s:.0f} s")
    for name, why in outcome.skipped.items():
        console.print(f"[yellow]skipped {name}: {why}")
    for violation in outcome.violations:
        console.print(f"[red]VIOLATED {violation}", markup=True, highlight=False)
    if outcome.violations:
        console.print(
            f"[red]replay with SEED={outcome.seed}; what is left lies in {outcome.folder}"
        )


def rows(outcome: Outcome) -> list[tuple[str, ...]]:
    """One row a fault, and all together: count, lost, doubled, median and worst seconds to recover.

    A job is counted as lost or doubled beside every fault that struck while it ran.
    """
    by: dict[str, list[Strike]] = defaultdict(list)
    for strike in outcome.strikes:
        by[strike.fault].append(strike)
    found = [_row(name, struck, outcome) for name, struck in sorted(by.items())]
    return [*found, _row("all", list(outcome.strikes), outcome)]


def write(outcome: Outcome, path: Path) -> None:
    """Everything, for machines."""
    path.write_text(json.dumps(outcome.as_json(), indent=1))


def _row(name: str, strikes: list[Strike], outcome: Outcome) -> tuple[str, ...]:
    felt = [strike.recovered_s for strike in strikes if strike.recovered_s is not None]
    hurt = Counter(job_id for strike in strikes for job_id in strike.hurt)
    whole = name == "all"
    lost = [job for job in outcome.lost if whole or job in hurt]
    doubled = [job for job in outcome.doubled if whole or job in hurt]
    return (
        name,
        str(len(felt)),
        str(len(lost)),
        str(len(doubled)),
        f"{statistics.median(felt):.1f}" if felt else "-",
        f"{max(felt):.1f}" if felt else "-",
    )
