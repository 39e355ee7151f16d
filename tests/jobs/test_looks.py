import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from jobs.connection import Scripts
from jobs.errors import NotFound, StoreUnavailable
from jobs.looks import MOST, Looks
from jobs.store import JobStore
from tests.fixtures.waiting import wait_for
from tests.jobs import making


class HeldUp:
    """The store's scripts; each round trip waits until it may go."""

    def __init__(self, scripts: Scripts, failure: StoreUnavailable | None = None) -> None:
        self.sizes: list[int] = []
        self.go = threading.Semaphore(0)
        self._scripts = scripts
        self._failure = failure

    def __call__(self, name: str, *args: str) -> object:
        self.sizes.append(len(args) // 2)
        assert self.go.acquire(timeout=30)
        if self._failure:
            raise self._failure
        return self._scripts(name, *args)


def test_looks_gather_while_one_is_under_way(store: JobStore) -> None:
    jobs = [store.submit(making.job(owner=owner)) for owner in ("ada", "bob")]
    scripts = HeldUp(store.scripts)
    looks = Looks(scripts)  # type: ignore[arg-type]
    with ThreadPoolExecutor(MOST + 22) as threads:
        first = threads.submit(looks, jobs[0].id, "ada")
        wait_for(lambda: scripts.sizes == [1], "the first look is under way")
        own = [threads.submit(looks, jobs[i % 2].id, jobs[i % 2].owner) for i in range(MOST + 20)]
        foreign = threads.submit(looks, jobs[0].id, "bob")
        wait_for(lambda: len(looks._asks) == MOST + 21, "the others wait")
        scripts.go.release(10)
        assert first.result(30).job == jobs[0]
        assert [each.result(30).job for each in own] == [jobs[i % 2] for i in range(MOST + 20)]
        with pytest.raises(NotFound):
            foreign.result(30)
    assert scripts.sizes == [1, MOST, 21]


def test_a_store_that_is_away_is_told_to_everybody_who_waits(store: JobStore) -> None:
    scripts = HeldUp(store.scripts, StoreUnavailable("away"))
    looks = Looks(scripts)  # type: ignore[arg-type]
    with ThreadPoolExecutor(3) as threads:
        asked = [threads.submit(looks, "video_1") for _ in range(3)]
        scripts.go.release(10)
        for each in asked:
            with pytest.raises(StoreUnavailable, match="away"):
                each.result(30)
