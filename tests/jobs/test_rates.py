"""Rates, counted in Redis by the `limits` library."""

from __future__ import annotations

from jobs.rates import Rates
from jobs.store import JobStore


def test_a_rate_is_shared_by_processes_and_apart_by_caller(store: JobStore) -> None:
    first, second = Rates(store), Rates(store)
    left = [rates.take("3/minute", "ann") for rates in (first, second, first, second)]
    assert [each.granted for each in left] == [True, True, True, False]
    assert [each.remaining for each in left] == [2, 1, 0, 0]
    assert all(each.limit == 3 and each.window_s == 60 for each in left)
    assert all(1 <= each.reset_s <= 60 for each in left)
    assert first.take("3/minute", "bob").granted
    assert all(str(key).startswith("t:") for key in store.redis.keys("*"))
