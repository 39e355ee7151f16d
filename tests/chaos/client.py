"""The clients: they submit until they have their 200, poll until the end, cancel now and then.

They know the API alone, and do what a careful client does: an Idempotency-Key, and the same request again
after anything that is no answer.
"""

from __future__ import annotations

import json
import threading
import time
import uuid
from dataclasses import dataclass
from random import Random
from typing import Any

import httpx

from jobs.states import TERMINAL
from tests.chaos.history import Delivery, History
from tests.fixtures.webhooks import Receiver

POLL_S = 0.3
OWNERS = ("busy", "busy", "busy", "light")
"""Whose the next job is, as likely as often."""
AGAIN = frozenset({429, 500, 502, 503, 504})
"""What a client tries again."""
CANCELS = 0.08
"""So many of the jobs are cancelled by their owner."""
LIMITS = ("max_waiting_s", "max_running_s")
"""Of a request: its deadlines."""


@dataclass
class Live:
    """A job that has not ended, as its client sees it."""

    job_id: str
    owner: str
    cancel_at: float = float("inf")


class Clients:
    """`target` jobs at a time, for its owners, on a thread of its own; more on demand."""

    def __init__(
        self,
        history: History,
        ports: tuple[int, ...],
        keys: dict[str, str],
        random: Random,
        *,
        target: int = 4,
    ) -> None:
        """`keys`: the API keys, by owner."""
        self._history = history
        self._keys = keys
        self._random = random
        self._target = target
        self._urls = [f"http://127.0.0.1:{port}/v1/videos" for port in ports]
        self._http = httpx.Client(timeout=8.0)
        self._lock = threading.Lock()
        self._live: dict[str, Live] = {}
        self._asked: dict[str, tuple[str, dict[str, Any]]] = {}
        """By job: whose it is, and the body of its request."""
        self._feeding = threading.Event()
        self._stop = threading.Event()
        self._receiver = Receiver()
        self._thread = threading.Thread(target=self._run, name="clients", daemon=True)

    def start(self) -> None:
        """Feed and poll."""
        self._feeding.set()
        self._thread.start()

    def starve(self) -> None:
        """Submit no more; go on polling."""
        self._feeding.clear()

    def stop(self) -> None:
        """End, and put down the webhooks that arrived."""
        self._stop.set()
        self._thread.join(30)
        self._http.close()
        self._receiver.close()
        self._history.deliveries.extend(
            Delivery(
                received.headers["webhook-id"],
                (body := json.loads(received.body))["data"]["id"],
                body["type"],
                body["data"]["status"],
            )
            for received in self._receiver.received
        )

    @property
    def live(self) -> set[str]:
        """Jobs that have not ended, as far as their clients know."""
        with self._lock:
            return set(self._live)

    def submit(self, owner: str, *, steps: int | None = None, frames: int = 5, **more: int) -> str:
        """Submit until the answer is 200; the job's id. `more`: of the request, such as its priority."""
        with self._lock:
            steps = steps or self._random.randrange(4, 24)
            cancels = self._random.random() < CANCELS
            cancel_after_s = self._random.uniform(0.0, 2.0)
            seed = len(self._asked)
        body = {
            "prompt": "a red circle moving right on a black background",
            "size": "64x64",
            "num_frames": frames,
            "num_inference_steps": steps,
            "seed": seed,
            "webhook_url": self._receiver.url(),
            **more,
        }
        job_id = self._insist(owner, body)
        if cancels and frames == 5:
            with self._lock:
                self._live[job_id].cancel_at = time.monotonic() + cancel_after_s
        return job_id

    def repeat(self, job_id: str) -> str:
        """Ask for the same once more, by a new request; the new job's id."""
        owner, body = self._asked[job_id]
        return self._insist(owner, body)

    def _insist(self, owner: str, body: dict[str, Any]) -> str:
        """The same request until its answer is 200."""
        key = f"request-{uuid.uuid4()}"
        while True:
            answer = self._ask("POST", "", owner, key=key, json=body)
            if answer is not None and answer.status_code == 200:
                break
            time.sleep(POLL_S)
        job_id: str = answer.json()["id"]
        self._history.promise(key, job_id)
        self._history.limits[job_id] = {name: body[name] for name in LIMITS if name in body}
        with self._lock:
            self._live[job_id] = Live(job_id, owner)
            self._asked[job_id] = owner, body
        return job_id

    def _run(self) -> None:
        while not self._stop.wait(POLL_S):
            with self._lock:
                live = list(self._live.values())
            for each in live:
                self._poll(each)
            if self._feeding.is_set() and len(self.live) < self._target:
                self.submit(self._random.choice(OWNERS))

    def _poll(self, live: Live) -> None:
        if time.monotonic() >= live.cancel_at:
            answer = self._ask("POST", f"/{live.job_id}/cancel", live.owner, fine=frozenset({409}))
            if answer is not None:
                live.cancel_at = float("inf")
        answer = self._ask("GET", f"/{live.job_id}", live.owner)
        if answer is None or answer.status_code != 200:
            return
        status = answer.json()["status"]
        self._history.tell(live.job_id, status)
        if status in TERMINAL:
            with self._lock:
                del self._live[live.job_id]

    def look_again(self) -> None:
        """Ask once more for every job, those that ended long ago too."""
        for job_id, (owner, _) in self._asked.items():
            for _ in range(20):
                answer = self._ask("GET", f"/{job_id}", owner)
                if answer is not None and answer.status_code == 200:
                    self._history.tell(job_id, answer.json()["status"])
                    break
                time.sleep(POLL_S)

    def _ask(
        self,
        method: str,
        path: str,
        owner: str,
        *,
        key: str = "",
        fine: frozenset[int] = frozenset(),
        **more: Any,
    ) -> httpx.Response | None:
        """One request to either API. None: no answer, or one that says to try again."""
        with self._lock:
            url = self._random.choice(self._urls)
        headers = {"authorization": f"Bearer {self._keys[owner]}"}
        if key:
            headers["idempotency-key"] = key
        try:
            answer = self._http.request(method, url + path, headers=headers, **more)
        except httpx.TransportError:
            return None
        if answer.status_code in AGAIN:
            return None
        if answer.status_code != 200 and answer.status_code not in fine:
            self._history.refusals.append(
                f"{method} {path}: {answer.status_code} {answer.text[:300]}"
            )
        return answer
