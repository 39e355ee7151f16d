"""Several gangs of one process: each run goes to whichever is free. No Celery, no Redis."""

from __future__ import annotations

import queue
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from pipeline.gang.gang import Gang
from pipeline.gang.protocol import Done, Failed, News, Ready, Run

_STOP_S = 5.0


class Dispatcher:
    """As many threads as gangs. They live until `close`, and the gangs that they start with them."""

    def __init__(self, gangs: Sequence[Gang], *, start_s: float) -> None:
        """Nothing starts yet.

        Args:
            gangs: the gangs, not started.
            start_s: how long a gang may take to be ready.
        """
        self._gangs = tuple(gangs)
        self._start_s = start_s
        self._free: queue.SimpleQueue[Gang] = queue.SimpleQueue()
        self._threads = ThreadPoolExecutor(len(self._gangs), thread_name_prefix="gang")

    def start(self) -> list[Ready]:
        """Start every gang, all at once.

        Raises:
            GangError: of the first that could not; the others are stopped.
        """
        try:
            ready = list(self._threads.map(lambda gang: gang.start(self._start_s), self._gangs))
        except BaseException:
            self.close()
            raise
        for gang in self._gangs:
            self._free.put(gang)
        return ready

    def submit(self, run: Run, on_news: Callable[[News], None]) -> Future[Done | Failed]:
        """Queue a run.

        The future raises GangDied if the gang dies under it; the next run on that gang starts it
        again, and raises GangError if it cannot.
        """
        return self._threads.submit(self._run, run, on_news)

    def cancel(self, run_id: str) -> None:
        """Stop this run at its next step boundary, on whichever gang it is."""
        for gang in self._gangs:
            gang.cancel(run_id)

    def close(self) -> None:
        """Drop what waits, stop what runs, end the gangs. Closing twice is nothing."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for gang in self._gangs:
            gang.stop(_STOP_S)

    def _run(self, run: Run, on_news: Callable[[News], None]) -> Done | Failed:
        gang = self._free.get()
        try:
            if not gang.alive:
                gang.start(self._start_s)
            return gang.run(run, on_news)
        finally:
            self._free.put(gang)
