"""One chaos run: start everything, strike N times by the seed, let it settle, stop, and judge.

The seed draws the order of the faults and what each one picks; when things happen is up to the machine.
"""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random

from tests.chaos.client import OWNERS, Clients
from tests.chaos.evidence import gather, settle
from tests.chaos.faults import FAULTS, Fault, NothingToStrike, Site
from tests.chaos.history import History
from tests.chaos.invariants import Violation, check
from tests.chaos.recovery import RECOVER_S, Recoveries, Strike
from tests.chaos.stack import TREE, Stack

FELT = 2
"""So many faults may be felt while the next one strikes."""


@dataclass(frozen=True)
class Outcome:
    """What a run came to."""

    seed: int
    strikes: tuple[Strike, ...]
    skipped: dict[str, str]
    """Faults that this machine cannot do, and why."""
    ends: dict[str, int]
    """Jobs by the state that they ended in."""
    lost: tuple[str, ...]
    """Accepted jobs that reached no end."""
    doubled: tuple[str, ...]
    """Jobs that committed twice, or came of one request beside another."""
    violations: tuple[Violation, ...]
    took_s: float
    folder: str

    def as_json(self) -> dict[str, object]:
        """Plain data."""
        return asdict(self)


Say = Callable[[str], None]


def draw(seed: int, count: int, kinds: Sequence[Fault]) -> Iterator[tuple[Fault, Random]]:
    """`count` faults: every kind once in an order of the seed, then every kind again, and so on."""
    random = Random(seed)
    bag: list[Fault] = []
    for _ in range(count):
        if not bag:
            bag = random.sample(list(kinds), len(kinds))
        yield bag.pop(), Random(random.random())


def run(
    seed: int,
    count: int,
    *,
    kinds: Sequence[Fault] = FAULTS,
    tree: Path = TREE,
    gpus: int = 2,
    say: Say = print,
) -> Outcome:
    """Strike `count` faults and judge the whole history. The folder is kept where something is wrong."""
    began = time.monotonic()
    history = History()
    stack = Stack(Path(tempfile.mkdtemp(prefix="rushes-chaos-")), history, tree=tree, gpus=gpus)
    skipped = {fault.name: fault.missing(stack) for fault in kinds if fault.missing(stack)}
    for name, why in skipped.items():
        say(f"SKIPPED {name}: {why}")
    possible = [fault for fault in kinds if fault.name not in skipped]
    with stack.running():
        stack.await_ready()
        say(f"ready after {time.monotonic() - began:.0f} s; seed {seed}, {stack.folder}")
        keys = {owner: stack.make_key(owner) for owner in sorted(set(OWNERS))}
        clients = Clients(history, stack.api_ports, keys, Random(seed))
        clients.start()
        recoveries = Recoveries(stack)
        for number, (fault, random) in enumerate(draw(seed, count, possible), 1):
            site = Site(stack, clients, history, random)
            # A gang may be gone with the last fault: one at least is warm before the next.
            site.until(lambda: recoveries.pending <= FELT and stack.ready(), RECOVER_S)
            say(f"{number:4}/{count}  {fault.name:42} {_strike(number, fault, site, recoveries)}")
        strikes = recoveries.close()
        settle(stack, clients, history)
        evidence = gather(stack, clients, history)
    violations = check(evidence)
    violations += [Violation("no_answer_is_refused", "", text) for text in history.refusals]
    violations += [
        Violation("no_job_is_stuck", job_id, f"{RECOVER_S:g} s after {strike.fault}")
        for strike in strikes
        for job_id in strike.stuck
    ]
    if not violations:
        stack.remove()
    found = {
        name: {each.job_id for each in violations if each.invariant == name}
        for name in ("every_promise_is_kept", "one_job_for_one_request", "one_fence_commits")
    }
    return Outcome(
        seed=seed,
        strikes=tuple(strikes),
        skipped=skipped,
        ends=dict(Counter(record.get("state", "gone") for record in evidence.records.values())),
        lost=tuple(sorted(found["every_promise_is_kept"])),
        doubled=tuple(sorted(found["one_job_for_one_request"] | found["one_fence_commits"])),
        violations=tuple(violations),
        took_s=time.monotonic() - began,
        folder=str(stack.folder) if violations else "",
    )


def _strike(number: int, fault: Fault, site: Site, recoveries: Recoveries) -> str:
    """What it did, in words."""
    site.begin()
    try:
        detail = fault.strike(site)
    except NothingToStrike as error:
        recoveries.strikes.append(Strike(number, fault.name, f"not struck: {error}"))
        return f"not struck: {error}"
    recoveries.add(Strike(number, fault.name, detail), site)
    return detail
