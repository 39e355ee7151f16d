"""The service in real processes on loopback: Redis, S3, two relays, two APIs, two workers with gangs of two.

Between Redis or S3 and each part that may lose it lies a link of `proxy`; what the suite itself asks goes
past the links.
"""

from __future__ import annotations

import base64
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from jobs.connection import translated
from jobs.errors import StoreUnavailable
from jobs.keys import Keys, Rights
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import LiveWorker, Workers
from ops.stack.redis_server import find_server, server_command
from tests.chaos import aof
from tests.chaos.history import History
from tests.chaos.part import Part
from tests.chaos.proxy import Link, Network
from tests.chaos.slow_disk import SlowDisk
from tests.chaos.small_disk import SmallDisk
from tests.fixtures.redis import free_port
from tests.fixtures.s3 import SeaweedFS, weed_binary
from tests.fixtures.waiting import wait_for

TREE = Path(__file__).parents[2]
RUSHES = (sys.executable, "-m", "ops.cli")
MODEL = "demo"
MARK = "CHAOS_STACK"
"""In the environment of every process of the stack, its ranks too: how orphans are told."""
START_S = 180.0
BEAT_S, LEASE_S, RELEASE_TTL_S, HANG_S = 0.5, 6.0, 1.5, 15.0
SECRET = f"whsec_{base64.b64encode(b'chaos ' * 5).decode()}"
KEEP_S = 0.25


class Stack:
    """Everything that runs. `running()` starts and ends it."""

    def __init__(self, folder: Path, history: History, *, tree: Path = TREE, gpus: int = 2) -> None:
        """Nothing runs yet. `tree`: whose code runs, for planted bugs; `gpus`: ranks of a gang."""
        self.history = history
        self.mark = f"chaos-{os.getpid()}-{time.time_ns()}"
        self.folder = folder
        self.slow_disk = SlowDisk(folder)
        for name in ("redis", "s3", "logs", "home"):
            (folder / name).mkdir(parents=True)
        self.small_disk = SmallDisk(folder / "home" / "attempts")
        self.network = Network()
        self._tree = tree
        self._gpus = gpus
        self._stop = threading.Event()
        self._keeper = threading.Thread(target=self._keep, name="keeper", daemon=True)
        redis_port = free_port()
        self._weed = SeaweedFS(weed_binary(), folder / "s3")
        self.s3 = self._weed.server
        s3_port = int(self.s3.endpoint_url.rpartition(":")[2])
        self.links = {
            name: self.network.link(name, port)
            for name, port in (
                *((f"{part}-redis", redis_port) for part in ("worker-0", "worker-1", "api")),
                *((f"{part}-redis", redis_port) for part in ("relay-0", "relay-1")),
                ("worker-0-s3", s3_port),
                ("worker-1-s3", s3_port),
            )
        }
        self.settings = self._settings(f"redis://127.0.0.1:{redis_port}/0")
        self.store = JobStore.connect(self.settings)
        self.workers = Workers(self.store)
        self.api_ports = (free_port(), free_port())
        server = server_command(find_server(), port=redis_port, directory=folder / "redis")
        self.parts = {
            "redis": self._part("redis", [*server, *aof.OPTIONS], self.slow_disk.env),
            "s3": self._part("s3", self._weed.command, {}),
            **{f"relay-{n}": self._part(f"relay-{n}", [*RUSHES, "relay"], {}) for n in range(2)},
            **{
                f"api-{n}": self._part(
                    f"api-{n}", [*RUSHES, "api"], {"RUSHES_PORT": str(port)}, link="api-redis"
                )
                for n, port in enumerate(self.api_ports)
            },
            **{f"worker-{n}": self._worker(n) for n in range(2)},
        }
        for name in ("relay-0", "relay-1"):  # the leader looks at what runs, the other does not
            self.links[f"{name}-redis"].watch(f"{self.settings.redis_prefix}running".encode())

    @contextmanager
    def running(self) -> Iterator[None]:
        """Start in order, keep every part alive, and kill what is left in the end."""
        self._keeper.start()
        try:
            yield
        finally:
            self._stop.set()
            self._keeper.join(10)
            for part in self.parts.values():
                part.end()
            self.network.close()

    def await_ready(self) -> None:
        """Return once the parts answer and both gangs are ready."""
        wait_for(lambda: self.s3.trouble() is None, "S3 answers", timeout_s=START_S)
        wait_for(self.answers, "both APIs and Redis answer", timeout_s=START_S)
        wait_for(lambda: len(self.ready()) == 2, "both gangs are ready", timeout_s=START_S)

    def make_key(self, owner: str) -> str:
        """An API key for an owner of its own."""
        return Keys(self.store).create(owner, Rights(max_priority=1))[1]

    def live(self) -> list[LiveWorker]:
        """Workers that announce themselves; none while Redis is away. Notes which part each is."""
        try:
            live = list(self.workers.live())
        except StoreUnavailable:
            return []
        pids = {part.pid: part.name for part in self.parts.values()}
        for worker in live:
            if worker.info.pid in pids:
                self.history.parts.setdefault(worker.info.id, pids[worker.info.pid])
        return live

    def ready(self) -> list[LiveWorker]:
        """Those of `live` whose gang is warm and whose process is the present one."""
        pids = {part.pid for part in self.parts.values()}
        return [
            each for each in self.live() if each.info.state == "ready" and each.info.pid in pids
        ]

    def part_of(self, worker: LiveWorker) -> Part:
        """The part whose process that worker is."""
        return next(part for part in self.parts.values() if part.pid == worker.info.pid)

    def leader(self) -> Part | None:
        """The relay that has just looked at what runs; None while none does."""
        for name in ("relay-0", "relay-1"):
            if self.links[f"{name}-redis"].seen_within(1.5):
                return self.parts[name]
        return None

    def link(self, part: str, to: str) -> Link:
        """The way from a part to redis or s3."""
        return self.links[f"{part}-{to}"]

    def answers(self) -> bool:
        """Whether Redis and both APIs serve."""
        try:
            self.store.ping()
            statuses = [
                httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2).status_code
                for port in self.api_ports
            ]
        except (StoreUnavailable, httpx.TransportError):
            return False
        return statuses == [200] * len(statuses)

    def kill_subscriptions(self) -> int:
        """CLIENT KILL every pub/sub connection; how many there were."""
        with translated():
            return int(self.store.redis.client_kill_filter(_type="pubsub"))

    def orphans(self) -> list[str]:
        """Command lines of processes that carry this stack's mark, other than this one."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            try:
                if f"{MARK}={self.mark}".encode() in (process / "environ").read_bytes():
                    words = (process / "cmdline").read_bytes().decode(errors="replace")
                    found.append(f"{process.name} {' '.join(words.split(chr(0)))[:120]}")
            except OSError:
                continue
        return found

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _keep(self) -> None:
        while not self._stop.wait(KEEP_S):
            for part in self.parts.values():
                part.keep()
            self.live()

    def _settings(self, redis_url: str) -> Settings:
        return self.s3.settings(
            self.folder / "home",
            redis_url=redis_url,
            beat_s=BEAT_S,
            lease_s=LEASE_S,
            release_ttl_s=RELEASE_TTL_S,
            cancel_grace_s=3.0,
            drain_s=5.0,
            checkpoint_steps=4,
            preempt_s=1.0,
            gang_start_s=120.0,
            hang_least_s=HANG_S,
            hang_unseen_s=6 * HANG_S,
            webhook_secret=SECRET,
            webhook_private=True,
            webhook_timeout_s=2.0,
        )

    def _part(self, name: str, command: list[str], env: dict[str, str], link: str = "") -> Part:
        redis_link = self.links.get(link or f"{name}-redis")
        s3_link = self.links.get(f"{name}-s3")
        settings = self.settings.model_copy(
            update={
                **({"redis_url": f"redis://127.0.0.1:{redis_link.port}/0"} if redis_link else {}),
                **({"s3_endpoint_url": f"http://127.0.0.1:{s3_link.port}"} if s3_link else {}),
            }
        )
        given = {
            "PYTHONPATH": str(self._tree),
            "CHAOS_LOGS": str(self.folder / "logs"),
            MARK: self.mark,
            # Ranks that share two cores with all the rest.
            "OMP_NUM_THREADS": "1",
            **_variables(settings),
            **env,
        }
        kept = {name: value for name, value in os.environ.items() if not name.startswith("RUSHES_")}
        return Part(name, command, env=kept | given, folder=self._tree)

    def _worker(self, number: int) -> Part:
        command = [*RUSHES, "worker", "--device", "cpu", "--num-gpus", str(self._gpus)]
        if not self.small_disk.missing:
            command = self.small_disk.command(command)
        return self._part(f"worker-{number}", command, {})


def _variables(settings: Settings) -> dict[str, str]:
    """The environment that gives these settings again, where they are no defaults."""
    variables = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        text = value.get_secret_value() if hasattr(value, "get_secret_value") else str(value)
        variables[f"RUSHES_{name.upper()}"] = text
    return variables
