"""What a key may have and has, and how that is changed."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from jobs.errors import NotFound, QueueFull
from jobs.keys import Keys, Rights
from jobs.quotas import Limits, Quotas
from jobs.store import JobStore
from tests.jobs import making


def test_limits_are_set_shown_held_and_lifted(store: JobStore) -> None:
    keys, quotas = Keys(store, hold_s=0), Quotas(store)
    key, text = keys.create("ann", Rights(max_running=2))
    store.submit(making.job(owner=key.id))

    changed = quotas.limit(key.id, Limits(max_queued=1, daily_device_s=2.5))
    assert (changed.max_running, changed.max_queued, changed.daily_device_s) == (2, 1, 2.5)
    assert (changed.running, changed.queued, changed.device_s_today) == (0, 1, 0.0)
    found = keys.find(text)
    assert found is not None
    with pytest.raises(QueueFull, match="1 of your jobs"):
        store.accept(making.job(owner=key.id), quota=found.quota)

    lifted = quotas.limit(key.id, Limits(max_queued=None))
    assert (lifted.max_running, lifted.max_queued, lifted.daily_device_s) == (2, None, 2.5)
    assert quotas.list().data == [lifted]
    keys.revoke(key.id)
    assert quotas.list().data == []


def test_what_no_key_has_is_refused(store: JobStore) -> None:
    with pytest.raises(NotFound, match="key_none"):
        Quotas(store).limit("key_none", Limits(max_queued=1))
    assert not store.redis.exists("t:key:key_none")
    with pytest.raises(NotFound, match="key_none"):
        Quotas(store).show("key_none")
    with pytest.raises(ValidationError):
        Limits(max_running=0)
