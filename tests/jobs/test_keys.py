"""API keys: shown once, compared whole, revoked within the time a look holds."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from jobs.errors import NotFound
from jobs.keys import Keys, Rights
from jobs.store import JobStore


@pytest.fixture
def keys(store: JobStore) -> Keys:
    return Keys(store, hold_s=0)


def test_a_key_is_found_by_its_text_and_kept_as_a_digest(keys: Keys, store: JobStore) -> None:
    assert not keys.some()
    rights = Rights(scope="admin", max_priority=3, rate="60/minute", max_running=2)
    made, text = keys.create("ann", rights)
    assert keys.some()
    found = keys.find(text)
    assert found == made
    assert (found.scope, found.max_priority, found.rate) == ("admin", 3, "60/minute")
    secret = text.rpartition("_")[2] if "_" not in text[30:] else text[30:]
    stored = [store.redis.hgetall(key) for key in store.redis.keys("*key*01*")]
    assert stored
    assert secret not in str(stored)
    assert secret not in repr(keys.list())


def test_anything_but_the_key_itself_finds_nothing(keys: Keys) -> None:
    _, text = keys.create("ann", Rights())
    _, other = keys.create("bob", Rights())
    swapped = "x" if text[-1] != "x" else "y"
    for wrong in ("", "EMPTY", text[:-1], text + "x", text[:-1] + swapped, text[:30] + other[30:]):
        assert keys.find(wrong) is None
    assert keys.find("rk_01ARZ3NDEKTSV4RRFFQ69G5FAV_" + text[30:]) is None, "no such id"


def test_a_revoked_key_opens_nothing_and_the_door_stays_shut(keys: Keys) -> None:
    made, text = keys.create("ann", Rights())
    keys.revoke(made.id)
    assert keys.find(text) is None
    assert keys.some(), "with its last key revoked the service is not open to all"
    assert keys.list()[0].revoked_at is not None
    first = keys.list()[0].revoked_at
    keys.revoke(made.id)
    assert keys.list()[0].revoked_at == first
    with pytest.raises(NotFound):
        keys.revoke("key_nobody")


def test_a_look_holds_for_its_time_and_no_longer(store: JobStore) -> None:
    now = 0.0
    keys = Keys(store, hold_s=1.0, clock=lambda: now)
    made, text = keys.create("ann", Rights())
    assert keys.find(text)
    keys.revoke(made.id)
    assert keys.find(text), "held"
    now = 1.0
    assert keys.find(text) is None


@pytest.mark.parametrize(
    "bad", [{"rate": "often"}, {"max_priority": 10}, {"max_queued": 0}, {"scope": "root"}]
)
def test_rights_that_cannot_be_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Rights.model_validate(bad)
