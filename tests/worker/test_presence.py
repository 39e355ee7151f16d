"""What a worker says of itself."""

from __future__ import annotations

from jobs.store import JobStore
from jobs.workers import Workers
from pipeline.gang.protocol import Ready
from pipeline.options import EngineOptions
from tests.jobs import making
from worker.presence import Presence

OPTIONS = EngineOptions(model_path="/models/tiny", served_model_name="small")
READY = Ready(
    card=making.CARD,
    platform="cpu",
    backend="gloo",
    dtype="float32",
    degrees={"cfg": 1},
    devices=(),
    load_s=1.0,
)


def test_a_worker_is_announced_before_its_gang_is_ready(redis_url: str) -> None:
    workers = Workers(JobStore.connect(making.settings(redis_url)))
    presence = Presence(workers, OPTIONS, slots=2)

    presence.announce()
    (worker,) = workers.live()
    assert (worker.info.state, worker.info.card) == ("starting", None)
    assert worker.info.names == ("small", "/models/tiny")

    presence.ready(READY, restarts=3)
    (worker,) = workers.live()
    assert (worker.info.state, worker.info.restarts) == ("ready", 3)
    assert worker.info.card == making.CARD

    presence.withdraw()
    assert workers.live() == ()


def test_who_leaves_does_not_come_back(redis_url: str) -> None:
    workers = Workers(JobStore.connect(making.settings(redis_url)))
    presence = Presence(workers, OPTIONS, slots=2)

    presence.enter("draining")
    presence.ready(READY, restarts=0)
    presence.enter("unhealthy")

    (worker,) = workers.live()
    assert worker.info.state == presence.state == "draining"


def test_a_disk_that_fails_outweighs_a_gang_that_is_ready(redis_url: str) -> None:
    workers = Workers(JobStore.connect(making.settings(redis_url)))
    presence = Presence(workers, OPTIONS, slots=2)

    def told() -> str:
        (worker,) = workers.live()
        return worker.info.state

    presence.note_disk(usable=False)
    presence.ready(READY, restarts=0)
    assert (told(), presence.state) == ("unhealthy", "ready")

    presence.note_disk(usable=True)
    assert told() == "ready"

    presence.note_disk(usable=False)
    presence.enter("draining")
    assert told() == "draining"


def test_a_store_that_is_away_hears_it_later() -> None:
    nowhere = Workers(JobStore.connect(making.settings("redis://127.0.0.1:1/0")))
    presence = Presence(nowhere, OPTIONS, slots=2)

    presence.enter("unhealthy")
    presence.withdraw()

    assert presence.state == "unhealthy"
