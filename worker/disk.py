"""Whether this worker's own disk lets it work.

One that writes nothing ends every try at once, and its gang, always free, would be given the next: so
the worker is unhealthy until a write works again.
"""

from __future__ import annotations

import threading
import time

import structlog

from worker.attempts import Attempts
from worker.presence import Presence

log = structlog.get_logger()

BACKOFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)


class Disk:
    """Where the attempts lie. May be asked from any thread."""

    def __init__(
        self, attempts: Attempts, presence: Presence, *, backoff_s: tuple[float, ...] = BACKOFF_S
    ) -> None:
        """`backoff_s`: between looks at a disk that fails; the last one again and again."""
        self._attempts = attempts
        self._presence = presence
        self._backoff_s = backoff_s
        self._waiting = threading.Lock()
        """Held while somebody waits for the disk to work again."""

    def fails(self) -> bool:
        """Try it. Where it fails, the worker is unhealthy from before this returns until it works."""
        try:
            self._attempts.probe()
        except OSError as error:
            if self._waiting.acquire(blocking=False):
                log.error("the disk fails: no jobs for now", error=str(error))  # noqa: TRY400 - its words say it all
                self._presence.note_disk(usable=False)
                threading.Thread(target=self._wait, name="disk", daemon=True).start()
            return True
        return False

    def _wait(self) -> None:
        looks = 0
        while True:
            time.sleep(self._backoff_s[min(looks, len(self._backoff_s) - 1)])
            looks += 1
            try:
                self._attempts.probe()
            except OSError as error:
                log.debug("the disk still fails", error=str(error), looks=looks)
                continue
            break
        log.info("the disk works again", looks=looks)
        self._presence.note_disk(usable=True)
        self._waiting.release()
