"""The kinds of faults. Each strikes, heals, and says what it did; `run` measures how long it was felt."""

from __future__ import annotations

from tests.chaos.faults import demand, messages, network, processes, storage
from tests.chaos.faults.fault import Fault, NothingToStrike, Site

FAULTS: tuple[Fault, ...] = (
    *processes.FAULTS,
    *network.FAULTS,
    *messages.FAULTS,
    *storage.FAULTS,
    *demand.FAULTS,
)

__all__ = ["FAULTS", "Fault", "NothingToStrike", "Site"]
