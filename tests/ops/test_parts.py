"""How long the parts of `serve` may take to stop."""

from pathlib import Path
from urllib.parse import urlsplit

from api import GRACE_S
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from ops.stack import parts
from pipeline.options import EngineOptions
from tests.jobs import making

BUDGET_S = 15.0
"""What is promised for a whole stop."""


def test_stopping_stays_within_the_budget_stage_by_stage(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    stages = [
        [parts.redis(tmp_path, {}, 1, settings)],
        parts.services(settings, {}, flower=True),
        parts.workers(EngineOptions(model_path="m"), settings, {}, [{}, {}], ready=lambda: True),
    ]
    # The parts of a stage stop together.
    assert sum(max(part.stop_s for part in stage) for stage in stages) < BUDGET_S


def test_the_api_is_not_killed_within_its_own_grace(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    (api,) = (part for part in parts.services(settings, {}, flower=False) if part.name == "api")
    assert api.stop_s > GRACE_S


def test_a_worker_is_not_killed_while_it_hands_its_job_back(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, drain_s=7)
    (worker,) = parts.workers(EngineOptions(model_path="m"), settings, {}, [{}], ready=lambda: True)
    assert worker.stop_s > settings.drain_s


def test_a_killed_worker_of_an_earlier_start_is_no_gang_of_this_one(
    tmp_path: Path, redis_url: str
) -> None:
    settings = Settings(home=tmp_path, redis_url=redis_url)
    workers = Workers(JobStore.connect(settings))
    workers.announce(making.worker("killed"))
    port = urlsplit(redis_url).port
    assert port is not None
    assert parts.redis(tmp_path, {}, port, settings).ready()
    assert workers.live() == ()
