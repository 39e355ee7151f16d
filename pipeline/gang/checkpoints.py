"""Rank 0's checkpoints of a run: taken between two steps, written on a thread while the next is computed."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.gang.mailbox import Outbox
from pipeline.gang.manifest import Manifest, Origin, digest_of, files_of
from pipeline.gang.protocol import Checkpoint, ItemResult, Run

if TYPE_CHECKING:
    from pipeline.stages.snapshot import Snapshot

log = logging.getLogger("pipeline.gang.checkpoints")


_WAITING = 2
"""Snapshots held in memory: one that is written, and the next."""


@dataclass(frozen=True)
class _Taken:
    item: int
    snapshot: Snapshot
    results: tuple[ItemResult, ...]


class Checkpoints:
    """Of one run. Only rank 0 has it; close it."""

    def __init__(
        self,
        run: Run,
        origin: Origin,
        outbox: Outbox,
        *,
        begin: tuple[int, int] = (0, 0),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`begin`: the item and step that the run begins at."""
        self._run = run
        self._origin = origin
        self._outbox = outbox
        self._clock = clock
        self._since_s = clock()
        self._last = begin
        """Item and step of the last checkpoint."""
        self._number = 0
        self._usable = True
        self._room = threading.Semaphore(_WAITING)
        self._taken: queue.SimpleQueue[_Taken | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def boundary(
        self,
        item: int,
        results: tuple[ItemResult, ...],
        take: Callable[[], Snapshot],
        *,
        step: int,
        asked: bool,
    ) -> bool:
        """Take a checkpoint if one is due, or if somebody `asked` for it.

        Args:
            item: the output that is being made.
            results: those finished before.
            take: gives what there is to keep.
            step: steps of `item` that are done.
            asked: it is wanted now.

        Returns:
            Whether it was taken.
        """
        place = item, step
        nothing_new = place in (self._last, (0, 0))
        if nothing_new or not self._usable or not (asked or self._is_due(item, step)):
            return False
        if not self._room.acquire(blocking=asked):
            return False  # the disk is slower than they come
        if (snapshot := self._snapshot(take)) is None:
            self._room.release()
            return False
        self._last, self._since_s = place, self._clock()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write_all, name="checkpoints", daemon=True)
            self._thread.start()
        self._taken.put(_Taken(item, snapshot, results))
        return True

    def _snapshot(self, take: Callable[[], Snapshot]) -> Snapshot | None:
        try:
            snapshot = take()
        except TypeError as error:
            log.warning("%s: no checkpoints: %s", self._run.run_id, error)
            self._usable = False
            return None
        if not snapshot.finite:
            log.warning("%s: no checkpoint of a latent that is not finite", self._run.run_id)
            return None
        return snapshot

    def close(self) -> None:
        """Return once what was taken is written and told."""
        if self._thread is not None:
            self._taken.put(None)
            self._thread.join()
            self._thread = None

    def _is_due(self, item: int, step: int) -> bool:
        run = self._run
        if 0 < run.checkpoint_s <= self._clock() - self._since_s:
            return True
        # Counted from the run's beginning, resumed or not: the same steps for every attempt.
        done = sum(each.request.num_inference_steps for each in run.items[:item]) + step
        return run.checkpoint_steps > 0 and done % run.checkpoint_steps == 0

    def _write_all(self) -> None:
        while (taken := self._taken.get()) is not None:
            try:
                self._write(taken)
            except OSError as error:
                log.warning("%s: a checkpoint is not written: %s", self._run.run_id, error)
            self._room.release()

    def _write(self, taken: _Taken) -> None:
        run, snapshot = self._run, taken.snapshot
        self._number += 1
        name = f"checkpoint-{self._number}"
        manifest = Manifest(
            origin=self._origin,
            items=digest_of(run.items),
            item=taken.item,
            step=snapshot.step,
            steps=snapshot.steps,
            scheduler=snapshot.scheduler,
            results=taken.results,
        )
        tensors, words = (Path(run.directory, f"{name}.{end}") for end in ("safetensors", "json"))
        snapshot.save(tensors)
        words.write_text(manifest.model_dump_json())
        self._outbox.send(
            Checkpoint(
                run_id=run.run_id,
                name=name,
                item=taken.item,
                step=snapshot.step,
                steps=snapshot.steps,
                files=(
                    tensors.name,
                    words.name,
                    *(file for result in taken.results for file in files_of(result)),
                ),
            )
        )
