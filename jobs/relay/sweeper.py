"""Removes what is past its time: finished jobs, files of fenced-out attempts, traces of dead workers.

It runs beside the relay's loop, because an artifact store may be slow, and a relay that does not look
for long must start all its observations anew.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from jobs.artifacts import ArtifactStore
from jobs.errors import StorageUnavailable, StoreUnavailable
from jobs.relay.board import Board
from jobs.workers import Workers

_log = structlog.get_logger()


class Sweeper:
    """One round after the other while its relay leads."""

    def __init__(
        self, board: Board, workers: Workers, artifacts: ArtifactStore, leads: Callable[[], bool]
    ) -> None:
        self._board = board
        self._workers = workers
        self._artifacts = artifacts
        self._leads = leads

    def run(self, stop: threading.Event, *, every_s: float = 5.0) -> None:
        """Sweep every `every_s` until `stop`."""
        while not stop.wait(every_s):
            if not self._leads():
                continue
            try:
                self.sweep()
            except StoreUnavailable as error:
                _log.warning("sweep waits", reason=str(error))

    def sweep(self) -> None:
        """One round.

        Raises:
            StoreUnavailable: Redis does not answer.
        """
        for worker_id in self._workers.gone():
            self._workers.forget(worker_id)
        while self._board.retire():
            pass
        for files, mark in self._board.due_sweeps():
            try:
                self._artifacts.delete_prefix(f"jobs/{files}")
            except StorageUnavailable as error:
                _log.warning("files not swept yet", files=files, reason=str(error))
                self._board.sweep_later(files)
            else:
                self._board.swept(files, mark)
