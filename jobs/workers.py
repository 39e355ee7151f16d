"""What workers announce about themselves and their models, and who reads it.

`worker:<id>` runs out unless announced again every beat; `models` outlives the workers, so that a
model whose gangs are all away is still accepted and queued.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from jobs.connection import translated
from jobs.errors import ModelLoading, ModelNotFound
from jobs.store import JobStore
from pipeline.limits import ModelCard


class Device(BaseModel):
    """One rank's device as the rank sees it (the fields of the gang protocol's DeviceInfo)."""

    model_config = ConfigDict(frozen=True)

    rank: int
    pid: int
    device: str
    name: str
    memory_bytes: int


class WorkerInfo(BaseModel):
    """One worker with its gang."""

    model_config = ConfigDict(frozen=True)

    id: str
    """Fresh at every start of the process."""
    host: str
    pid: int
    model: str
    """The served model's first name."""
    names: tuple[str, ...]
    """Every name that clients may use, the first and the model's path included."""
    state: Literal["starting", "ready", "unhealthy", "draining"]
    card: ModelCard | None = None
    """From Ready; None while the gang has never been ready."""
    platform: str = ""
    backend: str = ""
    dtype: str = ""
    degrees: dict[str, int] = Field(default_factory=dict)
    devices: tuple[Device, ...] = ()
    fallbacks: tuple[str, ...] = ()
    slots: int = 2
    """Jobs that may be held at once: one computed, the others being stored."""
    restarts: int = 0
    """How often the gang was started again."""
    started_at: float
    order: int = 0
    """The model's place among those served together; 0 is the default model."""


@dataclass(frozen=True)
class LiveWorker:
    """A worker that announced itself within the lease, and what it holds."""

    info: WorkerInfo
    attempts: frozenset[str]
    """Claimed and not over here, as `<job id>/<fence>`: of one job there may be two, an old one too."""
    gang_attempt: str
    """The one that its gang computes; empty: none."""
    drained: bool = False
    """An admin wants it to take no more jobs; its state is then draining."""

    @property
    def free(self) -> bool:
        """Whether a job released now could start at once."""
        return (
            self.info.state == "ready"
            and not self.gang_attempt
            and len(self.attempts) < self.info.slots
        )


class ServedModel(BaseModel):
    """A model that some worker has announced, live or not."""

    model_config = ConfigDict(frozen=True)

    name: str
    names: tuple[str, ...]
    card: ModelCard | None
    live_gangs: int = 0
    """Gangs that are ready now."""
    order: int = 0
    first_seen_at: float = 0.0
    """Unix seconds of the first announcement; 0 in what an older version wrote."""
    seen_at: float
    """Unix seconds of the last announcement."""


class Workers:
    """The announcements. Every method raises `StoreUnavailable` when Redis does not answer."""

    def __init__(self, store: JobStore) -> None:
        self._store = store
        self._redis = store.redis

    def announce(self, info: WorkerInfo) -> bool:
        """Say that the worker lives; to be repeated every `beat_s`, and forgotten after `lease_s`.

        True: it is drained, and takes no more jobs until that is undone.
        """
        key = self._store.key
        known, now = self._known().get(info.model), time.time()
        served = ServedModel(
            name=info.model,
            names=info.names,
            card=info.card or (known.card if known else None),
            order=info.order,
            first_seen_at=(known.first_seen_at if known else 0) or now,
            seen_at=now,
        )
        lease_ms = int(self._store.settings.lease_s * 1000)
        with translated():
            before = cast("str | None", self._redis.get(key("worker", info.id)))
            news = before is None or WorkerInfo.model_validate_json(before).state != info.state
            pipe = self._redis.pipeline()
            pipe.set(key("worker", info.id), info.model_dump_json(), px=lease_ms)
            pipe.sadd(key("workers"), info.id)
            pipe.hset(key("models"), info.model, served.model_dump_json(exclude={"live_gangs"}))
            if news:
                pipe.lpush(key("wake"), "1")
                pipe.ltrim(key("wake"), 0, 0)
            pipe.hexists(key("drains"), info.id)
            *_, drained = pipe.execute()
        return bool(drained)

    def note_start(self, model: str, load_s: float, *, again: bool) -> None:
        """Count a gang that became ready; `again`: it was started anew."""
        self._store.scripts("started", model, load_s, int(again))

    def withdraw(self, worker_id: str) -> None:
        """Say goodbye: what the worker still holds, should it have died, goes by its jobs' beats."""
        key = self._store.key
        with translated():
            pipe = self._redis.pipeline()
            pipe.delete(key("worker", worker_id))
            pipe.hdel(key("drains"), worker_id)
            pipe.execute()
        self.forget(worker_id)

    def withdraw_all(self) -> None:
        """Withdraw every worker; only for who knows that none can live."""
        for worker_id in self._ids():
            self.withdraw(worker_id)
        with translated():
            self._redis.delete(self._store.key("drains"))

    def forget(self, worker_id: str) -> None:
        """Drop what a worker left behind, but its drain, unless it announces itself again."""
        self._store.scripts("forget_worker", worker_id)

    def live(self) -> tuple[LiveWorker, ...]:
        """Every worker that announced itself within the lease."""
        return tuple(worker for worker in self._all() if worker is not None)

    def of_process(self, host: str, pid: int) -> LiveWorker | None:
        """The live worker that is, or was, this process."""
        for worker in self.live():
            if (worker.info.host, worker.info.pid) == (host, pid):
                return worker
        return None

    def gone(self) -> tuple[str, ...]:
        """Workers whose announcement has run out and that nobody has forgotten yet."""
        key = self._store.key
        ids = self._ids()
        with translated():
            infos = self._redis.mget([key("worker", worker_id) for worker_id in ids]) if ids else []
        return tuple(worker_id for worker_id, info in zip(ids, infos, strict=True) if info is None)

    def find(self, name: str | None) -> ServedModel:
        """A served model by any of its names; None: the first served model.

        Raises:
            ModelNotFound: no worker has announced such a model.
            ModelLoading: none is named and none announced yet: the service is starting.
        """
        models = self.models()
        if name is None:
            if not models:
                raise ModelLoading("no worker has announced a model yet; try again soon")
            return models[0]
        for model in models:
            if name in model.names:
                return model
        raise ModelNotFound(f"model {name!r} is not served here")

    def card(self, name: str | None) -> ModelCard:
        """The card of a served model by any of its names; None: the first served model.

        Raises:
            ModelNotFound: no worker has announced such a model.
            ModelLoading: announced, but no gang has been ready yet.
        """
        model = self.find(name)
        if model.card is None:
            raise ModelLoading(f"model {model.name!r} is still loading")
        return model.card

    def models(self) -> tuple[ServedModel, ...]:
        """Every known model: those with workers first, each group in its order."""
        live = [worker.info for worker in self.live()]
        announced = {info.model for info in live}
        models = [
            model.model_copy(
                update={
                    "live_gangs": sum(
                        info.model == model.name and info.state == "ready" for info in live
                    )
                }
            )
            for model in self._known().values()
        ]
        models.sort(key=lambda model: (model.name not in announced, model.order, -model.seen_at))
        return tuple(models)

    def _known(self) -> dict[str, ServedModel]:
        """By name; one unseen for the retention time is known no more."""
        with translated():
            stored = cast("dict[str, str]", self._redis.hgetall(self._store.key("models")))
        oldest = time.time() - self._store.settings.retention_s
        models = (ServedModel.model_validate_json(text) for text in stored.values())
        return {model.name: model for model in models if model.seen_at >= oldest}

    def _ids(self) -> list[str]:
        with translated():
            return sorted(cast("set[str]", self._redis.smembers(self._store.key("workers"))))

    def _all(self) -> list[LiveWorker | None]:
        key = self._store.key
        ids = self._ids()
        with translated():
            pipe = self._redis.pipeline()
            pipe.hgetall(key("gangs"))
            pipe.hkeys(key("drains"))
            for worker_id in ids:
                pipe.get(key("worker", worker_id))
                pipe.smembers(key("held", worker_id))
            gangs, drained, *rest = pipe.execute()
        return [
            None
            if text is None
            else _live(text, held, gangs.get(worker_id, ""), drained=worker_id in drained)
            for worker_id, text, held in zip(ids, rest[::2], rest[1::2], strict=True)
        ]


def _live(text: str, held: set[str], gang_attempt: str, *, drained: bool) -> LiveWorker:
    info = WorkerInfo.model_validate_json(text)
    if drained and info.state != "unhealthy":
        info = info.model_copy(update={"state": "draining"})
    return LiveWorker(info, frozenset(held), gang_attempt, drained)
