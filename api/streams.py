"""A job as server-sent events: the whole job object whenever it changed, until it has ended."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Self

from api.answers import described
from api.parts import Parts
from jobs.errors import NotFound, StoreUnavailable
from jobs.events import Watch
from jobs.record import Job
from jobs.states import State

HEARTBEAT_S = 15.0
_TELLING = (
    "status",
    "attempt",
    "resumed_from_step",
    "queue_position",
    "progress",
    "stage",
    "step",
    "steps",
)


class JobStream:
    """The events of one job for its owner. Close it: it holds one of the process's streams.

    `status` events say that the state changed, `progress` events anything else, each with the job
    object as data, `preview` events show what is being made; `deleted` ends the stream of a job that is
    no more. A comment keeps quiet connections alive.

    Args:
        heartbeat_s: the longest silence.
    """

    def __init__(
        self, parts: Parts, job_id: str, owner: str, *, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self._parts = parts
        self._owner = owner
        self._heartbeat_s = heartbeat_s
        self._watch: Watch = parts.events.watch(job_id)
        self._events = self._run(job_id)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        return next(self._events)

    def close(self) -> None:
        """Let go; twice does no harm."""
        self._watch.close()
        self._events.close()  # type: ignore[attr-defined]

    def _run(self, job_id: str) -> Iterator[bytes]:
        try:
            yield from self._tell(job_id)
        finally:
            self._watch.close()

    def _tell(self, job_id: str) -> Iterator[bytes]:
        seen: dict[str, Any] = {}
        shown: str | None = None
        while True:
            try:
                look = self._parts.store.look(job_id, owner=self._owner)
            except NotFound:
                yield _event("deleted", {"id": job_id})
                return
            except StoreUnavailable:
                yield b": the store does not answer\n\n"
                self._watch.wait(1.0)
                continue
            data = described(self._parts, look)
            now = {name: data[name] for name in _TELLING}
            if now != seen:
                kind = "progress" if seen.get("status") == now["status"] else "status"
                yield _event(kind, data)
                seen = now
            if look.job.state.terminal:
                return
            preview = self._preview(look.job)
            if preview is not None and preview != shown:
                yield _event(
                    "preview", {"id": job_id, "image": f"data:image/webp;base64,{preview}"}
                )
                shown = preview
            if not self._watch.wait(self._heartbeat_s):
                yield b": heartbeat\n\n"

    def _preview(self, job: Job) -> str | None:
        if job.state is not State.IN_PROGRESS:
            return None
        try:
            return self._parts.store.preview(job)
        except StoreUnavailable:
            return None


def _event(kind: str, data: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
