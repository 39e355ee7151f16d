"""How a try ends when it is not done."""

from __future__ import annotations

from jobs.record import JobError


class Lost(Exception):
    """The job was cancelled, deleted or given to another worker."""


class HandedBack(Exception):
    """This worker is leaving: the job goes back unharmed."""


class TryFailed(Exception):
    """The try failed."""

    def __init__(self, error: JobError, *, again: bool) -> None:
        """`again`: another try may do better."""
        super().__init__(f"{error.code}: {error.message}")
        self.error = error
        self.again = again
