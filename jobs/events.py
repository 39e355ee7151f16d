"""Who watches which job, and one reader a process that wakes them.

The scripts publish a job's id whenever it changes. That is a hint: a watcher reads the record, so a lost
hint costs it no more than its own next look.
"""

from __future__ import annotations

import threading
from collections import defaultdict

from jobs.connection import translated
from jobs.errors import Busy, StoreUnavailable
from jobs.store import JobStore

_LOOK_S = 0.5


class Watch:
    """One watcher of one job; close it."""

    def __init__(self, events: Events, job_id: str) -> None:
        self._events = events
        self.job_id = job_id
        self._changed = threading.Event()

    def wait(self, timeout_s: float) -> bool:
        """Return when the job may have changed since the last call, or False after `timeout_s`."""
        changed = self._changed.wait(timeout_s)
        self._changed.clear()
        return changed

    def wake(self) -> None:
        """It may have changed."""
        self._changed.set()

    def close(self) -> None:
        """Watch no more; twice does no harm."""
        self._events.forget(self)


class Events:
    """The watches of this process. Its reader lives while there are any.

    Args:
        most: watches open at the same time.
    """

    def __init__(self, store: JobStore, *, most: int) -> None:
        self._store = store
        self._most = most
        self._lock = threading.Lock()
        self._watches: defaultdict[str, set[Watch]] = defaultdict(set)
        self._open = 0
        self._reading = False

    def watch(self, job_id: str) -> Watch:
        """Watch a job; look at it once before the first wait.

        Raises:
            Busy: as many are open as may be.
        """
        watch = Watch(self, job_id)
        with self._lock:
            if self._open >= self._most:
                raise Busy(f"{self._most} streams and waits are open here already; poll instead")
            self._open += 1
            self._watches[job_id].add(watch)
            if not self._reading:
                self._reading = True
                threading.Thread(target=self._read, name="events", daemon=True).start()
        return watch

    def forget(self, watch: Watch) -> None:
        """Close it."""
        with self._lock:
            watches = self._watches.get(watch.job_id, set())
            if watch in watches:
                watches.discard(watch)
                self._open -= 1
                if not watches:
                    del self._watches[watch.job_id]

    @property
    def open(self) -> int:
        """How many are open."""
        return self._open

    def _read(self) -> None:
        while self._wanted():
            try:
                self._listen()
            except StoreUnavailable:
                threading.Event().wait(_LOOK_S)

    def _wanted(self) -> bool:
        with self._lock:
            self._reading = self._open > 0
            return self._reading

    def _listen(self) -> None:
        with translated(), self._store.pubsub() as channel:
            channel.subscribe(self._store.key("events"))
            while self._wanted():
                message = channel.get_message(timeout=_LOOK_S)
                if message is None:
                    continue
                # Subscribed, perhaps anew: what was published before has not been heard.
                job_id = message["data"] if message["type"] == "message" else None
                self._wake(job_id)

    def _wake(self, job_id: str | None) -> None:
        with self._lock:
            if job_id is None:
                awake = [watch for watches in self._watches.values() for watch in watches]
            else:
                awake = list(self._watches.get(job_id, ()))
        for watch in awake:
            watch.wake()
