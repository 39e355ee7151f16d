"""Who may have deliveries under way."""

from __future__ import annotations

import dataclasses

from jobs.webhooks.delivery import Outcome
from jobs.webhooks.shares import CROWDED_S, Shares
from tests.jobs import making
from tests.jobs.webhooks.making import hook


def test_a_receiver_that_says_429_gets_nothing_for_a_while() -> None:
    now = [100.0]
    shares = Shares(per_receiver=2, per_owner=4, clock=lambda: now[0])
    busy, other = hook("https://busy.example/a"), hook("https://other.example/")
    assert shares.take(busy) == 0
    shares.give_back(busy, Outcome(429, retry_after_s=60).throttle_s)
    assert shares.take(hook("https://busy.example/b")) == 60
    assert shares.take(other) == 0
    now[0] += 60
    assert shares.take(busy) == 0


def test_one_owner_with_many_hosts_leaves_room_for_others() -> None:
    shares = Shares(per_receiver=2, per_owner=4)
    taken = [shares.take(hook(f"https://host-{n}.example/")) for n in range(10)]
    assert taken == [0.0] * 4 + [CROWDED_S] * 6
    bobs = dataclasses.replace(hook("https://bob.example/"), job=making.job(owner="bob"))
    assert shares.take(bobs) == 0
    assert shares.taken == 5
