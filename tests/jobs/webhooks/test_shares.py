"""Who may have deliveries under way."""

from __future__ import annotations

import dataclasses

from jobs.relay.board import Hook
from jobs.webhooks.delivery import Outcome
from jobs.webhooks.shares import (
    CROWDED_S,
    PROMPT_S,
    SLOW_CROWDED_S,
    Lane,
    Later,
    Place,
    Shares,
    bounds,
)
from tests.jobs import making
from tests.jobs.webhooks.making import hook

THREADS = 32
PER_RECEIVER = 2
LANES = bounds(THREADS, PER_RECEIVER)


def to(host: str, owner: str = "ada") -> Hook:
    return dataclasses.replace(hook(f"https://{host}.example/"), job=making.job(owner=owner))


def taken(shares: Shares, event: Hook) -> Place:
    place = shares.take(event)
    assert isinstance(place, Place)
    return place


def known(shares: Shares, event: Hook, took_s: float) -> Hook:
    """`event`, its receiver tried once."""
    shares.give_back(taken(shares, event), took_s=took_s)
    return event


def test_a_receiver_that_says_429_gets_nothing_for_a_while() -> None:
    now = [100.0]
    shares = Shares(LANES, clock=lambda: now[0])
    busy, other = hook("https://busy.example/a"), hook("https://other.example/")
    rest_s = Outcome(429, retry_after_s=60).throttle_s
    shares.give_back(taken(shares, busy), took_s=0.1, rest_s=rest_s)
    assert shares.take(hook("https://busy.example/b")) == Later(60)
    assert isinstance(shares.take(other), Place)
    now[0] += 60
    assert isinstance(shares.take(busy), Place)


def test_a_new_receiver_is_tried_once_a_prompt_one_gets_more() -> None:
    shares = Shares(LANES)
    first = taken(shares, to("good"))
    assert first.lane is Lane.NEW
    assert shares.take(to("good")) == Later(CROWDED_S)
    shares.give_back(first, took_s=0.1)
    assert [taken(shares, to("good")).lane for _ in range(PER_RECEIVER)] == [Lane.PROMPT] * 2
    assert shares.take(to("good")) == Later(CROWDED_S)


def test_slow_receivers_fill_a_lane_of_their_own() -> None:
    shares = Shares(LANES)
    good = known(shares, to("good"), took_s=0.1)
    slow = [known(shares, to(f"slow-{n}"), took_s=PROMPT_S + 1) for n in range(9)]
    places = [shares.take(each) for each in slow]
    most = LANES[Lane.SLOW].owner
    assert all(isinstance(place, Place) for place in places[:most])
    assert places[most:] == [Later(SLOW_CROWDED_S)] * (len(slow) - most)
    assert isinstance(shares.take(good), Place)
    assert isinstance(shares.take(to("unheard-of")), Place)


def test_a_slow_receiver_that_answers_promptly_again_is_prompt() -> None:
    shares = Shares(LANES)
    back = known(shares, to("back"), took_s=PROMPT_S + 1)
    place = taken(shares, back)
    assert place.lane is Lane.SLOW
    shares.give_back(place, took_s=0.1)
    assert taken(shares, back).lane is Lane.PROMPT


def test_ever_new_names_of_an_owner_leave_room_for_others_and_for_his_own_that_answer() -> None:
    shares = Shares(LANES)
    good = known(shares, to("good"), took_s=0.1)
    places = [shares.take(to(f"host-{n}")) for n in range(10)]
    most = LANES[Lane.NEW].owner
    assert all(isinstance(place, Place) for place in places[:most])
    assert places[most:] == [Later(CROWDED_S)] * (10 - most)
    assert isinstance(shares.take(to("bobs", owner="bob")), Place)
    assert isinstance(shares.take(good), Place)
    assert shares.taken == most + 2


def test_a_quarter_of_the_threads_is_out_of_reach_of_all_that_hang() -> None:
    shares = Shares(LANES)
    for n in range(100):
        known(shares, to(f"slow-{n}", owner=f"owner-{n}"), took_s=PROMPT_S + 1)
    for n in range(100):
        shares.take(to(f"slow-{n}", owner=f"owner-{n}"))
        shares.take(to(f"new-{n}", owner=f"owner-{n}"))
    assert shares.taken == THREADS * 3 // 4


def test_what_is_over_is_not_counted() -> None:
    shares = Shares(LANES)
    for took_s in (0.1, PROMPT_S + 1, 0.1):
        known(shares, to("good"), took_s)
    assert shares.taken == 0
