"""Traces of what a rank does, for chrome://tracing or Perfetto: `--profile DIR`."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch.profiler import ProfilerActivity, profile, supported_activities

from pipeline.parallel.ranks import Ranks

log = logging.getLogger(__name__)

_RUNS = 3
"""A cold one and two warm ones. A trace of a long video has hundreds of megabytes, and a service
runs for weeks."""


class Profiler:
    """Writes a trace of each of a rank's first runs: `DIR/run0-rank0.json.gz` and so on.

    A gang that starts anew, or another gang that is given the same folder, takes a new number.
    """

    def __init__(self, directory: str | None, ranks: Ranks) -> None:
        """Without a directory, nothing is traced."""
        self._ranks = ranks
        self._left = _RUNS if directory is not None else 0
        self._directory = self._own(Path(directory)) if directory is not None else Path()

    @contextmanager
    def run(self) -> Iterator[None]:
        """Trace what is done within, on every rank alike; a run that fails leaves its trace too."""
        if self._left == 0:
            yield
            return
        number, self._left = _RUNS - self._left, self._left - 1
        trace = profile(activities=self._activities())
        try:
            with trace:
                try:
                    yield
                finally:
                    self._ranks.platform.synchronize(self._ranks.device)
        finally:
            self._export(trace, f"run{number}-rank{self._ranks.rank}.json.gz")

    def _export(self, trace: profile, name: str) -> None:
        """Write a trace; that it cannot be written is nothing to fail for, or to fail otherwise for."""
        try:
            trace.export_chrome_trace(str(self._directory / name))
        except OSError as error:
            log.warning("no trace: %s", error)

    @staticmethod
    def _activities() -> set[ProfilerActivity]:
        """All that this build of torch can record."""
        found: set[ProfilerActivity] = supported_activities()  # type: ignore[no-untyped-call]
        return found

    def _own(self, directory: Path) -> Path:
        """A folder of this gang's own, the same on every rank."""
        name = ""
        if self._ranks.rank == 0:
            directory.mkdir(parents=True, exist_ok=True)
            number = 0
            while True:
                try:
                    (directory / f"gang{number}").mkdir()
                    break
                except FileExistsError:
                    number += 1
            name = f"gang{number}"
        return directory / self._ranks.broadcast_text(name)
