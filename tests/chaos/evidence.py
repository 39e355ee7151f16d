"""After the last fault: let everything end, stop it in order, and collect what the invariants are judged by."""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import cast

import av

from jobs.artifacts import open_artifacts
from jobs.connection import translated
from jobs.errors import StoreUnavailable
from jobs.states import State
from tests.chaos import aof
from tests.chaos.books import uneven
from tests.chaos.client import Clients
from tests.chaos.history import History
from tests.chaos.invariants import Evidence
from tests.chaos.stack import Stack
from tests.fixtures.s3 import BUCKET

END_S = 240.0
TWINS = 4
"""So many jobs that went on from a checkpoint are made once more, undisturbed."""
SWEEP_S = 60.0
LEAVE_S = 12.0
"""A worker's `drain_s`, twice and a little: what the stop may take."""


def settle(stack: Stack, clients: Clients, history: History) -> None:
    """No more jobs; wait until those that are there have ended and were told of, as far as they will."""
    clients.starve()
    _wait(lambda: not clients.live, END_S)
    for job_id, record in sorted(_records(stack).items()):
        if history.limits.get(job_id):
            continue  # its twin might be late
        if len(history.twins) < TWINS and record["state"] == State.COMPLETED and _went_on(record):
            history.twins[job_id] = clients.repeat(job_id)
    _wait(lambda: not clients.live, END_S)
    _wait(lambda: not _count(stack, "outbox"), END_S)
    clients.look_again()


def gather(stack: Stack, clients: Clients, history: History) -> Evidence:
    """Stop in order and look at everything that is left."""
    for name in ("worker-0", "worker-1"):
        if not stack.parts[name].leave(LEAVE_S):
            history.refusals.append(f"{name} was told to stop and had not left after {LEAVE_S:g} s")
    _sweep_now(stack)
    clients.stop()
    # A part that was killed while it checked the store left that to the next check.
    open_artifacts(stack.settings).check()
    stored = _stored(stack)
    records = _records(stack)
    unreadable = _unreadable(stack, records)
    # What a killed worker left is dropped once its announcement has run out.
    _wait(lambda: not uneven(stack.store), SWEEP_S)
    books = uneven(stack.store)
    for name in ("api-0", "api-1", "relay-0", "relay-1"):
        if not stack.parts[name].leave(LEAVE_S):
            history.refusals.append(f"{name} was told to stop and had not left after {LEAVE_S:g} s")
    stack.parts["redis"].leave(LEAVE_S)
    stack.parts["s3"].end()  # its SIGTERM takes 15 s
    _wait(lambda: not stack.orphans(), 5.0)
    return Evidence(
        history=history,
        changes=tuple(aof.changes(stack.folder / "redis", stack.settings.redis_prefix)),
        stored=stored,
        unreadable=unreadable,
        orphans=tuple(stack.orphans()),
        books=books,
        max_failures=stack.settings.max_failures,
        max_lost=stack.settings.max_lost,
    )


def _went_on(record: Mapping[str, str]) -> bool:
    return bool(json.loads(record.get("resumed") or "{}").get("step"))


def _sweep_now(stack: Stack) -> None:
    """Every worker is gone, so nobody uploads any more: what the sweep would do later may be done now.

    What is noted without a time belongs to running tries; there are none, and the relay will not touch it.
    """
    redis, key = stack.store.redis, stack.store.key("sweep")
    with translated():
        noted = cast("list[tuple[str, float]]", redis.zrange(key, 0, -1, withscores=True))
        for files, due in noted:
            if due != float("inf"):
                redis.zadd(key, {files: 0}, xx=True)
    _wait(lambda: not _due(stack), SWEEP_S)


def _due(stack: Stack) -> int:
    with translated():
        return int(stack.store.redis.zcount(stack.store.key("sweep"), "-inf", time.time()))


def _count(stack: Stack, name: str) -> int:
    with translated():
        return int(stack.store.redis.zcard(stack.store.key(name)))


def _records(stack: Stack) -> dict[str, Mapping[str, str]]:
    found: dict[str, Mapping[str, str]] = {}
    with translated():
        for key in stack.store.redis.scan_iter(stack.store.key("job", "*"), count=1000):
            record = cast("dict[str, str]", stack.store.redis.hgetall(key))
            found[str(key).rpartition(":")[2]] = record
    return found


def _stored(stack: Stack) -> frozenset[str]:
    """Every key under the prefix, as the jobs name them; parts of unfinished uploads too."""
    prefix = f"{stack.settings.s3_prefix}/"
    client = stack.s3.client()
    keys = []
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=prefix):
        keys += [item["Key"] for item in page.get("Contents", [])]
    for upload in client.list_multipart_uploads(Bucket=BUCKET, Prefix=prefix).get("Uploads", []):
        keys.append(f"{upload['Key']} (unfinished upload)")
    return frozenset(key.removeprefix(prefix) for key in keys)


def _unreadable(stack: Stack, records: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    client, found = stack.s3.client(), {}
    for record in records.values():
        for artifact in json.loads(record.get("artifacts") or "[]"):
            name = f"{stack.settings.s3_prefix}/{artifact['key']}"
            try:
                content = client.get_object(Bucket=BUCKET, Key=name)["Body"].read()
                problem = _problem(artifact, content)
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what is wrong
                problem = f"{type(error).__name__}: {error}"
            if problem:
                found[artifact["key"]] = problem
    return found


def _problem(artifact: Mapping[str, object], content: bytes) -> str:
    if hashlib.sha256(content).hexdigest() != artifact["sha256"]:
        return "its SHA-256 is another"
    with av.open(io.BytesIO(content), "r") as container:
        frames = sum(1 for _ in container.decode(video=0))
    return (
        "" if frames == artifact["num_frames"] else f"{frames} frames of {artifact['num_frames']}"
    )


def _wait(condition: Callable[[], object], timeout_s: float) -> bool:
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends:
        with suppress(StoreUnavailable):
            if condition():
                return True
        time.sleep(0.1)
    return False
