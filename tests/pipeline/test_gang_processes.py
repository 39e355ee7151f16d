"""Whose death took the gang, with small processes in the place of ranks."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from pipeline.gang import processes
from pipeline.gang.gang import Gang, GangError
from pipeline.gang.processes import Death, RankProcesses
from pipeline.options import EngineOptions
from tests.fixtures.waiting import wait_for

LEAVES = "raise SystemExit(3)"
DIES_LATE = "import os, signal, time; time.sleep(0.5); os.kill(os.getpid(), signal.SIGKILL)"
ABORTS_LATE = "import os, time; time.sleep(0.5); os.abort()"
STAYS = "import time; time.sleep(600)"


def started(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scripts: tuple[str, ...]
) -> RankProcesses:
    def command(rank: int, *_: object) -> list[str]:
        return [sys.executable, "-c", scripts[rank]]

    monkeypatch.setattr(processes, "_rank_command", command)
    return RankProcesses(len(scripts), rendezvous=tmp_path / "store", device="cpu", env={})


def last_word(gang: RankProcesses) -> object:
    word = gang.inbox.get(timeout=60)
    gang.close()
    return word


def test_a_rank_that_takes_its_time_to_die_is_named_and_not_who_left_for_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gang = started(monkeypatch, tmp_path, (LEAVES, DIES_LATE, STAYS))
    assert gang.casualty(60) == "rank 1 was killed by SIGKILL"
    assert last_word(gang) == Death("rank 1 was killed by SIGKILL")


def test_a_rank_that_aborts_because_another_left_is_no_casualty(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gang = started(monkeypatch, tmp_path, (LEAVES, ABORTS_LATE))
    assert gang.casualty(60) is None
    assert last_word(gang) == Death("rank 0 exited with status 3")


def test_those_who_stay_when_one_leaves_are_killed_and_are_no_casualties(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "_LEAVING_S", 0.5)
    gang = started(monkeypatch, tmp_path, (LEAVES, STAYS))
    assert gang.casualty(60) is None
    assert last_word(gang) == Death("rank 0 exited with status 3")
    assert not gang.alive


def test_a_start_does_not_wait_for_those_who_stayed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(processes, "_LEAVING_S", 600)
    gang = Gang(EngineOptions(model_path="m"), num_gpus=2, directory=tmp_path)
    gang._processes = started(monkeypatch, tmp_path, (LEAVES, STAYS))
    wait_for(lambda: not gang.alive, "the first has left")
    with pytest.raises(GangError, match=r"not ready within 0.1 s"):  # the new ones never are
        gang.start(0.1)


def test_ranks_killed_by_their_parent_are_no_casualties(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gang = started(monkeypatch, tmp_path, (STAYS, STAYS))
    gang.kill("told so")
    assert gang.casualty(60) is None
    assert last_word(gang) == Death("told so")
