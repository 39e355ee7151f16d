"""Whether this worker listens to its queue: not while it is drained or its disk fails.

Such a worker's claims are refused anyway; but a message that it takes is one that a free worker then
gets only with the relay's next look.
"""

from __future__ import annotations

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

log = structlog.get_logger()

ANSWER_S = 0.5
"""How long our own consumer may take to do it; else it is told again with the next beat."""


class Intake:
    """This worker's Celery consumer, told by remote control, for it lives on another thread.

    Args:
        node: this worker's name among Celery's.
        queue: the one that it listens to.
    """

    def __init__(self, app: Celery, node: str, queue: str) -> None:
        self._app = app
        self._node = node
        self._queue = queue
        self._open = True

    def keep(self, *, open_: bool) -> None:
        """Begin or end to listen where that is a change."""
        if open_ == self._open:
            return
        control = self._app.control
        tell = control.add_consumer if open_ else control.cancel_consumer
        try:
            done = tell(self._queue, destination=[self._node], reply=True, timeout=ANSWER_S)
        except (OperationalError, OSError) as error:
            log.warning("cannot tell the consumer", error=type(error).__name__)
            return
        if done:
            self._open = open_
            log.info("takes jobs again" if open_ else "takes no more jobs")
