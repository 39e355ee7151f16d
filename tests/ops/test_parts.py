"""The parts of `serve`: how long each may take to stop, and whose announcements count."""

import os
import socket
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from api import GRACE_S
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from ops.stack import parts
from ops.stack.part import Part
from pipeline.options import EngineOptions
from tests.jobs import making

BUDGET_S = 15.0
"""What is promised for a whole stop."""


@pytest.fixture
def announced(redis_url: str) -> Workers:
    return Workers(JobStore.connect(making.settings(redis_url)))


def workers_of(
    settings: Settings,
    announced: Workers,
    *,
    gangs: int = 1,
    reached: Callable[[], bool] = lambda: True,
) -> list[Part]:
    options = EngineOptions(model_path="m")
    return parts.workers(options, settings, {}, [{}] * gangs, announced, reached=reached)


def test_stopping_stays_within_the_budget_stage_by_stage(
    tmp_path: Path, announced: Workers
) -> None:
    settings = Settings(home=tmp_path)
    stages = [
        [parts.redis(tmp_path, {}, 1, announced)],
        parts.services(settings, {}, flower=True),
        workers_of(settings, announced, gangs=2),
    ]
    # The parts of a stage stop together.
    assert sum(max(part.stop_s for part in stage) for stage in stages) < BUDGET_S


def test_the_api_is_not_killed_within_its_own_grace(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    (api,) = (part for part in parts.services(settings, {}, flower=False) if part.name == "api")
    assert api.stop_s > GRACE_S


def test_a_worker_is_not_killed_while_it_hands_its_job_back(
    tmp_path: Path, announced: Workers
) -> None:
    settings = Settings(home=tmp_path, drain_s=7)
    (worker,) = workers_of(settings, announced)
    assert worker.stop_s > settings.drain_s


def test_a_killed_worker_of_an_earlier_start_is_no_gang_of_this_one(
    tmp_path: Path, redis_url: str, announced: Workers
) -> None:
    announced.announce(making.worker("killed"))
    port = urlsplit(redis_url).port
    assert port is not None
    assert parts.redis(tmp_path, {}, port, announced).ready(1)
    assert announced.live() == ()


def test_a_worker_is_ready_by_its_own_announcement_and_once_it_is_reached(
    tmp_path: Path, announced: Workers
) -> None:
    up: list[str] = []
    (part,) = workers_of(Settings(home=tmp_path), announced, reached=lambda: bool(up))
    here, pid = socket.gethostname(), os.getpid()
    announced.announce(making.worker("elsewhere", host="elsewhere", pid=pid))
    announced.announce(making.worker("another", host=here, pid=pid + 1))
    announced.announce(making.worker("own", host=here, pid=pid, state="starting"))
    up.append("the API")
    assert not part.ready(pid)
    announced.announce(making.worker("own", host=here, pid=pid))
    assert part.ready(pid)
    up.clear()
    assert not part.ready(pid)


def test_a_worker_that_died_is_withdrawn_at_once_and_no_other(
    tmp_path: Path, announced: Workers
) -> None:
    (part,) = workers_of(Settings(home=tmp_path), announced)
    here, pid = socket.gethostname(), os.getpid()
    announced.announce(making.worker("dead", host=here, pid=pid))
    announced.announce(making.worker("elsewhere", host="elsewhere", pid=pid))
    part.died(pid)
    assert [worker.info.id for worker in announced.live()] == ["elsewhere"]
    part.died(pid)


def test_a_store_that_is_away_makes_nobody_ready_and_harms_nobody(tmp_path: Path) -> None:
    away = Workers(JobStore.connect(making.settings("redis://127.0.0.1:1/0")))
    (part,) = workers_of(Settings(home=tmp_path), away)
    assert not part.ready(1)
    part.died(1)
