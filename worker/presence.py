"""What this worker tells the others about itself."""

from __future__ import annotations

import os
import socket
import threading
import time
from typing import Literal

import structlog
from ulid import ULID

from jobs.errors import StoreUnavailable
from jobs.workers import Device, WorkerInfo, Workers
from pipeline.gang.protocol import Ready
from pipeline.options import EngineOptions

log = structlog.get_logger()


class Presence:
    """This worker's WorkerInfo: changed by the supervisor, announced again by the beat."""

    def __init__(self, workers: Workers, options: EngineOptions, *, slots: int) -> None:
        self._workers = workers
        self._changing = threading.Lock()
        self._sending = threading.Lock()
        self.drained = False
        """Whether an admin wants it to take no more jobs, as the last announcement was told."""
        self.disk_usable = True
        """Whether attempts can write their files; while not, it is unhealthy whatever its gang is."""
        self._info = WorkerInfo(
            id=f"worker_{ULID()}",
            host=socket.gethostname(),
            pid=os.getpid(),
            model=options.name,
            names=options.names,
            state="starting",
            slots=slots,
            started_at=time.time(),
        )

    @property
    def id(self) -> str:
        """This worker's id, fresh at every start."""
        return self._info.id

    @property
    def host(self) -> str:
        """This machine's name."""
        return self._info.host

    @property
    def node(self) -> str:
        """Its name among Celery's workers."""
        return f"{self.id}@{self.host}"

    @property
    def state(self) -> str:
        """Its gang's: starting, ready, unhealthy or draining."""
        return self._info.state

    def ready(self, ready: Ready, *, restarts: int) -> None:
        """The gang is warm."""
        self._change(
            state="ready",
            card=ready.card,
            platform=ready.platform,
            backend=ready.backend,
            dtype=ready.dtype,
            degrees=ready.degrees,
            devices=tuple(Device(**device.model_dump()) for device in ready.devices),
            fallbacks=ready.fallbacks,
            restarts=restarts,
        )
        try:
            self._workers.note_start(self._info.model, ready.load_s, again=restarts > 0)
        except StoreUnavailable as error:
            log.warning("a start is not counted", error=str(error))

    def enter(self, state: Literal["starting", "unhealthy", "draining"]) -> None:
        """The gang takes no job for now; from `draining` there is no way back."""
        self._change(state=state)

    def note_disk(self, *, usable: bool) -> None:
        """Say whether attempts can write their files: without that it takes no job."""
        self.disk_usable = usable
        self.announce()

    def announce(self) -> None:
        """Say it again. An unreachable store will hear it with the next beat."""
        with self._sending:
            info = self._info
            if not self.disk_usable and info.state != "draining":
                info = info.model_copy(update={"state": "unhealthy"})
            try:
                self.drained = self._workers.announce(info)
            except StoreUnavailable as error:
                log.warning("cannot announce this worker", error=str(error))

    def withdraw(self) -> None:
        """Say goodbye; one that is not heard is forgotten with the lease."""
        with self._sending:
            try:
                self._workers.withdraw(self._info.id)
            except StoreUnavailable as error:
                log.warning("cannot say goodbye", error=str(error))

    def _change(self, **changes: object) -> None:
        with self._changing:
            if self._info.state == "draining":
                return
            self._info = self._info.model_copy(update=changes)
        self.announce()
