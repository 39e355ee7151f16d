"""The planted bugs fit the code as it is; what catches them takes minutes: `make chaos PLANTED=...`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.chaos.faults import FAULTS
from tests.chaos.invariants import INVARIANTS
from tests.chaos.planted import PLANTS, plant


@pytest.mark.parametrize("name", PLANTS)
def test_each_bug_can_be_planted_and_names_what_there_is(name: str, tmp_path: Path) -> None:
    assert plant(name, tmp_path) == tmp_path
    assert set(PLANTS[name].faults) <= {fault.name for fault in FAULTS}
    assert PLANTS[name].caught_by <= {invariant.__name__ for invariant in INVARIANTS}
