"""Bugs planted into a copy of the packages: the suite is worth what it catches.

Each is one that the design names: without the check that it takes away, a job is doubled or lost.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from tests.chaos.stack import TREE

PACKAGES = ("pipeline", "jobs", "api", "worker", "ops")


@dataclass(frozen=True)
class Change:
    """In one file, `old` becomes `new`."""

    path: str
    old: str
    new: str


@dataclass(frozen=True)
class Plant:
    """A bug, the faults under which it shows, and the invariants that may catch it."""

    changes: tuple[Change, ...]
    faults: tuple[str, ...]
    caught_by: frozenset[str]


PLANTS = {
    "fence": Plant(
        (Change("jobs/scripts/prelude.lua", " and job.fence == fence\n", "\n"),),
        ("worker SIGSTOP beyond its lease", "worker cut from Redis beyond its lease"),
        frozenset({"one_fence_commits"}),
    ),
    "message": Plant(
        (
            Change(
                "jobs/scripts/claim.lua",
                "if call('HGET', key('released'), id) ~= release .. ' ' .. job.model then return false end\n",
                "",
            ),
        ),
        ("message doubled", "message late"),
        frozenset({"only_known_edges", "attempts_only_rise", "one_fence_commits"}),
    ),
    "outage": Plant(
        (
            Change(
                "jobs/relay/observer.py",
                "        self._since = {}\n        self._looked_at = None\n",
                "        return\n",
            ),
            Change(
                "jobs/relay/observer.py",
                "now_s - self._looked_at > self._max_gap_s",
                "self._max_gap_s < 0",
            ),
        ),
        ("everything cut from Redis beyond the lease",),
        frozenset({"tries_end_for_a_reason"}),
    ),
    "books": Plant(
        (Change("jobs/scripts/prelude.lua", "  count_queued(job, 1)\n", ""),),
        ("worker SIGKILL", "rank SIGKILL"),
        frozenset({"the_books_are_even"}),
    ),
}
"""By name: the fence not compared; the message trusted, so the claim compares no release; what was
observed before an outage kept over it; a job that is queued again not counted."""


def plant(name: str, folder: Path) -> Path:
    """Copy the packages into `folder` with the bug in them; the folder.

    Raises:
        LookupError: the code is not as the plant knows it any more.
    """
    for package in PACKAGES:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(TREE / package, folder / package, ignore=ignored)
    for change in PLANTS[name].changes:
        path = folder / change.path
        text = path.read_text()
        if text.count(change.old) != 1:
            raise LookupError(f"plant {name}: {change.path} does not hold {change.old!r} once")
        path.write_text(text.replace(change.old, change.new))
    return folder
