from __future__ import annotations

import pytest

from jobs.errors import StoreUnavailable
from jobs.relay.board import Board, LeadLost
from jobs.relay.leader import LEAD_S, Leader
from jobs.store import JobStore
from tests.fixtures.redis import RedisServer
from tests.fixtures.waiting import wait_for
from tests.jobs import making


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_one_leads_and_a_standby_follows_when_it_resigns(store: JobStore) -> None:
    first, second = Leader(Board(store, "a")), Leader(Board(store, "b"))
    assert first.keep()
    assert not second.keep()
    assert (first.leads, second.leads) == (True, False)
    second.resign()
    assert not second.keep(), "only the leader can give up the lead"
    first.resign()
    first.resign()
    assert second.keep()
    assert not first.keep()


def test_a_dead_leader_is_followed_when_its_lock_runs_out(store: JobStore) -> None:
    assert Leader(Board(store, "dead")).keep()
    ttl_ms = store.redis.pttl("t:lead")
    assert 0 < ttl_ms <= LEAD_S * 1000
    store.redis.pexpire("t:lead", 1)
    standby = Leader(Board(store, "b"))
    wait_for(standby.keep, "the standby leads")


def test_the_lead_is_renewed_and_ends_by_the_own_clock(store: JobStore) -> None:
    clock = Clock()
    leader = Leader(Board(store, "a"), clock)
    leader.keep()
    store.redis.pexpire("t:lead", 60_000)
    clock.now += 0.1 * LEAD_S
    leader.keep()
    assert store.redis.pttl("t:lead") > LEAD_S * 1000, "too early to renew"
    clock.now += 0.5 * LEAD_S
    leader.keep()
    assert store.redis.pttl("t:lead") <= LEAD_S * 1000
    assert leader.leads
    clock.now += LEAD_S
    assert not leader.leads, "a stopped process does not lead, whatever Redis says"


def test_what_only_a_leader_may_do_is_refused_without_the_lead(store: JobStore) -> None:
    old, new = Board(store, "old"), Board(store, "new")
    old.lead(600)
    store.submit(making.job())
    (release,) = old.release("tiny", 1)
    making.claim(store, release.job_id, release.number)
    (running,) = old.running()
    store.redis.delete("t:lead")
    new.lead(600)
    with pytest.raises(LeadLost):
        old.lose(running)
    with pytest.raises(LeadLost):
        old.release("tiny", 1)


def test_an_outage_ends_the_lead(redis_server: RedisServer) -> None:
    store = JobStore.connect(making.settings(redis_server.url))
    clock = Clock()
    leader = Leader(Board(store, "a"), clock)
    assert leader.keep()
    redis_server.kill()
    clock.now += 0.5 * LEAD_S
    with pytest.raises(StoreUnavailable):
        leader.keep()
    assert not leader.leads
    leader.resign()
