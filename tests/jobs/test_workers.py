from __future__ import annotations

import time

import pytest

from jobs.errors import ModelLoading, ModelNotFound
from jobs.relay.board import Board
from jobs.store import JobStore
from jobs.workers import Workers
from tests.jobs import making


def test_a_live_worker_shows_what_it_holds(store: JobStore, board: Board, workers: Workers) -> None:
    info = making.worker("w1")
    workers.announce(info)
    (live,) = workers.live()
    assert (live.info, live.attempts, live.gang_attempt) == (info, frozenset(), "")
    assert live.free
    job = store.submit(making.job())
    (release,) = board.release("tiny", 1)
    claimed = store.claim(job.id, release.number, "w1")
    assert claimed is not None
    attempt = f"{job.id}/{claimed.fence}"
    (live,) = workers.live()
    assert (live.attempts, live.gang_attempt) == (frozenset({attempt}), attempt)
    assert not live.free


def test_an_announcement_runs_out_with_the_lease(store: JobStore, workers: Workers) -> None:
    workers.announce(making.worker("w1"))
    ttl_ms = store.redis.pttl("t:worker:w1")
    assert 0 < ttl_ms <= store.settings.lease_s * 1000
    store.redis.delete("t:worker:w1")
    assert workers.live() == ()
    assert workers.gone() == ("w1",)
    workers.announce(making.worker("w1"))
    assert workers.gone() == ()


def test_a_withdrawn_worker_leaves_nothing_but_its_model(store: JobStore, workers: Workers) -> None:
    workers.announce(making.worker("w1"))
    workers.withdraw("w1")
    workers.withdraw("w1")
    assert (workers.live(), workers.gone()) == ((), ())
    assert workers.card("tiny") == making.CARD
    assert [model.live_gangs for model in workers.models()] == [0]


def test_a_card_is_found_by_every_name(workers: Workers) -> None:
    with pytest.raises(ModelLoading, match="try again"):
        workers.card(None)
    workers.announce(making.worker("w1", state="starting", card=None))
    with pytest.raises(ModelLoading):
        workers.card("tiny")
    workers.announce(making.worker("w1"))
    for name in ("tiny", "/models/tiny", None):
        assert workers.card(name) == making.CARD
    with pytest.raises(ModelNotFound, match="'huge' is not served"):
        workers.card("huge")


def test_a_card_outlives_a_gang_that_starts_again(workers: Workers) -> None:
    workers.announce(making.worker("w1"))
    workers.announce(making.worker("w2", state="starting", card=None))
    assert workers.card("tiny") == making.CARD


def test_the_first_served_model_is_the_default(workers: Workers) -> None:
    other = making.CARD.model_copy(update={"name": "other"})
    workers.announce(making.worker("w2", model="other", names=("other",), card=other, order=1))
    workers.announce(making.worker("w1", order=0))
    assert [model.name for model in workers.models()] == ["tiny", "other"]
    assert workers.card(None) == making.CARD
    workers.withdraw("w1")
    assert workers.card(None) == other, "a model with workers goes before one without"


def test_ready_gangs_are_counted_by_model(workers: Workers) -> None:
    for number, state in enumerate(("ready", "ready", "starting", "unhealthy")):
        workers.announce(making.worker(f"w{number}", state=state))
    assert [(model.name, model.live_gangs) for model in workers.models()] == [("tiny", 2)]


def test_a_model_unseen_for_the_retention_is_known_no_more(
    store: JobStore, workers: Workers, monkeypatch: pytest.MonkeyPatch
) -> None:
    workers.announce(making.worker("w1"))
    later = time.time() + store.settings.retention_s + 1
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(ModelNotFound):
        workers.card("tiny")


def test_news_wake_the_relay_and_repetition_does_not(store: JobStore, workers: Workers) -> None:
    def woken() -> bool:
        return bool(store.redis.delete("t:wake"))

    workers.announce(making.worker("w1", state="starting"))
    assert woken()
    workers.announce(making.worker("w1", state="starting"))
    assert not woken()
    workers.announce(making.worker("w1", state="ready"))
    assert woken()
