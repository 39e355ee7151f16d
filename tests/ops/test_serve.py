"""The whole service, all parts real, over HTTP: one running stack for every test here."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import av
import httpx
import pytest

from ops.bench.overhead import measure, store_of
from ops.local import LocalService
from ops.stack.home import Home, running
from ops.stack.ports import LOOPBACK, free_port, is_free
from tests.fixtures.waiting import wait_for
from tests.ops.processes import alive, descendants

pytestmark = pytest.mark.timeout(240)

PATIENCE_S = 180.0
STOP_S = 15.0
"""What SIGTERM may take at most."""
AUTH = ("admin", "hush")
LONG = {"num_inference_steps": 50, "num_frames": 33, "size": "128x128"}
"""Some seconds of work for the tiny model: time to kill something."""


class Stack:
    """`rushes serve` on one home, again and again."""

    def __init__(self, home: Path, model: Path) -> None:
        self.home = home
        self.flower = f"http://{LOOPBACK}:{(port := free_port())}"
        self._arguments = ["--model-path", str(model), "--served-model-name", "tiny", "--flower"]
        self._env = {
            "RUSHES_FLOWER_PORT": str(port),
            "RUSHES_FLOWER_BASIC_AUTH": ":".join(AUTH),
            "RUSHES_LEASE_S": "600",  # no announcement runs out by itself
        }
        self.start()

    def start(self) -> None:
        self.service = LocalService(self.home, self._arguments, self._env)
        self.service.__enter__()
        self.client = httpx.Client(base_url=self.service.url, timeout=10.0)
        self.service.wait_ready(PATIENCE_S)

    def stop(self) -> int:
        self.client.close()
        return self.service.stop()

    def output(self) -> str:
        return self.service.output.read_text()

    def submit(self, **parameters: object) -> str:
        answer = self.client.post("/v1/videos", json={"prompt": "a cat", **parameters})
        assert answer.status_code == 200, answer.text
        job_id: str = answer.json()["id"]
        return job_id

    def job(self, job_id: str) -> dict[str, Any]:
        answer = self.client.get(f"/v1/videos/{job_id}")
        assert answer.status_code == 200, answer.text
        job: dict[str, Any] = answer.json()
        return job

    def wait_completed(self, job_id: str) -> dict[str, Any]:
        def ended() -> bool:
            return self.job(job_id)["status"] not in {"queued", "in_progress"}

        wait_for(ended, f"{job_id} has ended", timeout_s=PATIENCE_S)
        job = self.job(job_id)
        assert job["status"] == "completed", job
        return job

    def wait_denoising(self, job_id: str) -> None:
        def denoises() -> bool:
            job = self.job(job_id)
            assert job["status"] in {"queued", "in_progress"}, "too quick to be disturbed"
            return str(job["stage"]).lower() == "denoising" and job["step"] >= 2

        wait_for(denoises, f"{job_id} denoises", timeout_s=PATIENCE_S)

    def processes(self, words: str) -> list[int]:
        """Running processes of the stack whose command line matches."""
        found = []
        for pid in descendants(self.service.process.pid):
            try:
                command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if re.search(words, command.rstrip()):
                found.append(pid)
        return sorted(found)


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, tiny_wan: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path_factory.mktemp("serve") / "home", tiny_wan)
    yield stack
    stack.stop()


def test_a_job_goes_all_the_way(stack: Stack) -> None:
    job_id = stack.submit(seed=7, num_frames=13)
    job = stack.wait_completed(job_id)
    assert (job["num_frames"], job["size"], job["seed"], job["progress"]) == (13, "64x64", 7, 100)

    content = stack.client.get(f"/v1/videos/{job_id}/content")
    assert content.status_code == 200
    assert content.headers["content-type"] == "video/mp4"
    with av.open(BytesIO(content.content), "r") as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(frames) == 13
    assert frames[0].shape == (64, 64, 3)

    listed = stack.client.get("/v1/videos").json()
    assert job_id in [each["id"] for each in listed["data"]]
    assert stack.client.get("/v1/models").json()["data"][0]["id"] == "tiny"

    assert stack.client.delete(f"/v1/videos/{job_id}").json()["deleted"] is True
    assert stack.client.get(f"/v1/videos/{job_id}").status_code == 404
    assert stack.client.get(f"/v1/videos/{job_id}/content").status_code == 404


def test_says_where_everything_is(stack: Stack) -> None:
    said = stack.output()
    assert f"serve    | address  {stack.service.url}\n" in said
    assert re.search(r"model +tiny \(.*tiny_wan", said)
    assert "layout   2 = dp 1 x cfg 1 x ring 1 x ulysses 2 x tp 1 on cpu" in said
    assert f"data     {stack.home}\n" in said
    assert re.search(rf"serve    \| ready +{stack.service.url} after", said)
    assert {file.stem for file in (stack.home / "logs").iterdir()} >= {"serve", "api", "worker-0"}
    run = running(stack.home)
    assert run is not None
    assert (run.pid, run.api_url) == (stack.service.process.pid, stack.service.url)


def test_measures_what_the_service_adds(stack: Stack) -> None:
    sample = measure(stack.client, store_of(stack.home), seed=1)
    assert sample.to_start > 0
    assert sample.run > 0
    assert 0 < sample.to_completed < sample.to_client + 1
    assert sample.overhead == sample.to_start + sample.to_completed


def test_the_workers_parent_stays_small(stack: Stack) -> None:
    (worker,) = stack.processes(r"ops\.cli worker")
    status = Path(f"/proc/{worker}/status").read_text()
    (kib,) = re.findall(r"VmRSS:\s+(\d+) kB", status)
    assert int(kib) < 120 * 1024


def test_flower_shows_the_job_under_its_own_id(stack: Stack) -> None:
    job_id = stack.submit()
    stack.wait_completed(job_id)
    assert httpx.get(f"{stack.flower}/api/tasks").status_code == 401

    def succeeded() -> bool:
        answer = httpx.get(f"{stack.flower}/api/task/info/{job_id}", auth=AUTH)
        return answer.status_code == 200 and answer.json()["state"] == "SUCCESS"

    wait_for(succeeded, "Flower shows the job as done")
    query = {"draw": "1", "start": "0", "length": "50", "order[0][dir]": "desc"}
    query |= {"order[0][column]": "0", "columns[0][data]": "received"}
    page = httpx.get(f"{stack.flower}/tasks/datatable", params=query, auth=AUTH)
    (row,) = (row for row in page.json()["data"] if row["uuid"] == job_id)
    assert row["args"] == stack.job(job_id)["prompt"]
    assert row["kwargs"].startswith("tiny, ")
    assert "device-seconds" in row["result"]
    revoke = httpx.post(f"{stack.flower}/api/task/revoke/{job_id}", auth=AUTH)
    assert revoke.status_code == 403
    assert "read only" in revoke.text.lower()


def test_a_second_start_on_the_same_home_is_refused_by_name(stack: Stack) -> None:
    command = [sys.executable, "-m", "ops.cli", "serve", "--model-path", "own/m"]
    env = {**os.environ, "RUSHES_HOME": str(stack.home)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"in use by another rushes serve (pid {stack.service.process.pid})" in done.stderr


def test_a_killed_redis_comes_back_with_its_jobs(stack: Stack) -> None:
    done, running_id = stack.submit(), stack.submit(**LONG)
    stack.wait_completed(done)
    stack.wait_denoising(running_id)
    (server,) = stack.processes(r"valkey-server|redis-server")
    os.kill(server, signal.SIGKILL)

    def answers() -> bool:
        try:
            return stack.client.get(f"/v1/videos/{done}").status_code == 200
        except httpx.TransportError:
            return False

    wait_for(answers, "the job is there again", timeout_s=PATIENCE_S)
    assert stack.job(done)["status"] == "completed"
    assert stack.wait_completed(running_id)["attempt"] == 1  # the outage cost it nothing
    assert "redis was killed by signal 9; starts again in" in stack.output()


def test_a_killed_api_comes_back(stack: Stack) -> None:
    api = min(stack.processes(r"-m api$"))
    os.kill(api, signal.SIGKILL)
    wait_for(lambda: not alive(api), "the API is dead")

    def answers() -> bool:
        try:
            return stack.client.get("/health").status_code == 200
        except httpx.TransportError:
            return False

    wait_for(answers, "the API answers again", timeout_s=PATIENCE_S)


def test_health_is_503_from_a_workers_death_until_the_next_is_ready(stack: Stack) -> None:
    def health() -> tuple[int, list[str]]:
        answer = stack.client.get("/health")
        return answer.status_code, [gang["id"] for gang in answer.json()["gangs"]]

    status, gangs = health()
    assert (status, len(gangs)) == (200, 1)
    (worker,) = stack.processes(r"ops\.cli worker")
    os.kill(worker, signal.SIGKILL)
    wait_for(lambda: health()[0] == 503, "nobody is ready")
    wait_for(lambda: health()[0] == 200, "the next one is ready", timeout_s=PATIENCE_S)
    assert not set(health()[1]) & set(gangs)


def test_sigterm_hands_a_running_job_back_and_the_next_start_completes_it(stack: Stack) -> None:
    job_id = stack.submit(**LONG)
    stack.wait_denoising(job_id)
    below = descendants(stack.service.process.pid)
    began = time.monotonic()
    assert stack.stop() == 0
    assert time.monotonic() - began <= STOP_S
    assert not [pid for pid in below if alive(pid)]
    assert running(stack.home) is None

    stack.start()
    assert stack.wait_completed(job_id)["attempt"] == 2


def test_nothing_outlives_a_killed_serve_and_nothing_is_blocked(stack: Stack) -> None:
    stack.wait_denoising(stack.submit(**LONG))
    below = descendants(stack.service.process.pid)
    stack.service.process.kill()
    stack.service.process.wait()
    wait_for(lambda: not any(map(alive, below)), "every process is dead")
    assert is_free(LOOPBACK, stack.service.port)
    assert running(stack.home) is None
    with Home(stack.home):
        pass
