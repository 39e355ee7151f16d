"""The states of a job and every edge between them: the one table.

Each edge is one Lua script under `jobs/scripts/`; nothing else changes a state.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class State(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    """Accepted and durable; waits for a gang."""
    IN_PROGRESS = "in_progress"
    """Claimed by one worker under a fence."""
    COMPLETED = "completed"
    """Its artifacts are committed. Terminal."""
    FAILED = "failed"
    """It ended with an error. Terminal."""
    CANCELLED = "cancelled"
    """Its owner stopped it. Terminal."""

    @property
    def terminal(self) -> bool:
        """True when nothing can change the state any more."""
        return self in TERMINAL


TERMINAL = frozenset({State.COMPLETED, State.FAILED, State.CANCELLED})


@dataclass(frozen=True)
class Edge:
    """One allowed change: from `source` to `target` by `event`."""

    source: State
    event: str
    target: State


EDGES = (
    Edge(State.QUEUED, "claim", State.IN_PROGRESS),
    Edge(State.QUEUED, "cancel", State.CANCELLED),
    Edge(State.QUEUED, "expire", State.FAILED),
    Edge(State.IN_PROGRESS, "complete", State.COMPLETED),
    Edge(State.IN_PROGRESS, "fail", State.FAILED),
    Edge(State.IN_PROGRESS, "cancel", State.CANCELLED),
    # Requeues: a silent beat (lost), a gang death (failure), a drain or preemption (hand-back), an
    # admin (requeue).
    Edge(State.IN_PROGRESS, "lose", State.QUEUED),
    Edge(State.IN_PROGRESS, "retry", State.QUEUED),
    Edge(State.IN_PROGRESS, "hand_back", State.QUEUED),
    Edge(State.IN_PROGRESS, "requeue", State.QUEUED),
    # The same events once their cap (max_lost, max_failures) is reached.
    Edge(State.IN_PROGRESS, "lose", State.FAILED),
    Edge(State.IN_PROGRESS, "retry", State.FAILED),
)
