"""What only rank 0 does: take runs from the parent, tell the others each turn, and tell the parent of it."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.gang import manifest
from pipeline.gang.checkpoints import Checkpoints
from pipeline.gang.mailbox import Mailbox, Outbox
from pipeline.gang.manifest import Manifest
from pipeline.gang.protocol import Done, Failed, ItemResult, Progress, Resumed, Run
from pipeline.gang.turn import Turn, first_line, take_turn

if TYPE_CHECKING:
    from pipeline.engine import Engine
    from pipeline.parallel.ranks import Ranks
    from pipeline.stages.live import Live
    from pipeline.stages.snapshot import Snapshot

log = logging.getLogger("pipeline.gang.lead")

_LEAVE = ""


@dataclass(frozen=True)
class Lead:
    """The engine's way back to the parent, on rank 0."""

    run_id: str
    item: int
    results: tuple[ItemResult, ...]
    outbox: Outbox
    mailbox: Mailbox
    checkpoints: Checkpoints
    live: Live | None

    def progress(self, stage: str, step: int, steps: int) -> None:
        """Tell the parent where this turn stands, and of a new preview."""
        self.outbox.send(
            Progress(
                run_id=self.run_id,
                item=self.item,
                stage=stage,
                step=step,
                steps=steps,
                preview=None if self.live is None else self.live.take(),
            )
        )

    def stop_requested(self) -> bool:
        """True once the parent cancelled this run."""
        return self.mailbox.stop_requested(self.run_id)

    def boundary(self, step: int, take: Callable[[], Snapshot]) -> bool:
        """Make a checkpoint if one is due."""
        asked = self.mailbox.checkpoint_requested(self.run_id)
        return self.checkpoints.boundary(self.item, self.results, take, step=step, asked=asked)

    def resumed(self, step: int, steps: int, refused: str) -> None:
        """Tell the parent where this turn goes on."""
        self.outbox.send(
            Resumed(run_id=self.run_id, item=self.item, step=step, steps=steps, refused=refused)
        )


def lead(engine: Engine, ranks: Ranks, mailbox: Mailbox, outbox: Outbox) -> None:
    """Answer the parent's runs until it wants no more, then tell the others to leave."""
    while (run := mailbox.next()) is not None:
        log.info("%s: %d item(s)", run.run_id, len(run.items))
        answer = _run(engine, ranks, run, mailbox, outbox)
        if isinstance(answer, Failed) and answer.code == "cancelled":
            log.info("%s: cancelled", run.run_id)  # somebody asked for it
        elif isinstance(answer, Failed):
            log.warning("%s: %s: %s", run.run_id, answer.code, answer.message)
        else:
            log.info("%s: done", run.run_id)
        outbox.send(answer)
    ranks.broadcast_text(_LEAVE)


def _run(engine: Engine, ranks: Ranks, run: Run, mailbox: Mailbox, outbox: Outbox) -> Done | Failed:
    started_at = time.time()
    begin = _begin(engine, run, outbox)
    results = list(begin.results) if begin else []
    place = (begin.item, begin.step) if begin else (0, 0)
    checkpoints = Checkpoints(run, engine.origin, outbox, begin=place)
    peak_bytes = 0
    try:
        for index in range(len(results), len(run.items)):
            turn = Turn(run_id=run.run_id, directory=run.directory, item=run.items[index])
            if begin and index == begin.item:
                turn = turn.model_copy(
                    update={
                        "resume": run.resume,
                        "step": begin.step,
                        "scheduler": begin.scheduler,
                    }
                )
            ranks.broadcast_text(turn.model_dump_json())
            live = _live(turn)
            control = Lead(run.run_id, index, tuple(results), outbox, mailbox, checkpoints, live)
            outcome, turn_bytes = take_turn(engine, ranks, turn, control, live)
            peak_bytes = max(peak_bytes, turn_bytes)
            if isinstance(outcome, Failed):
                return outcome
            if outcome is not None:
                results.append(outcome)
    finally:
        checkpoints.close()
    return Done(
        run_id=run.run_id,
        results=tuple(results),
        started_at=started_at,
        ended_at=time.time(),
        peak_memory_bytes=peak_bytes,
    )


def _begin(engine: Engine, run: Run, outbox: Outbox) -> Manifest | None:
    """What the run goes on from; None: it begins at the beginning."""
    if not run.resume:
        return None
    try:
        return manifest.read(run, engine.origin)
    except ValueError as error:
        refused = first_line(error)
    log.warning("%s: begins anew: %s", run.run_id, refused)
    steps = run.items[0].request.num_inference_steps
    outbox.send(Resumed(run_id=run.run_id, item=0, step=0, steps=steps, refused=refused))
    return None


def _live(turn: Turn) -> Live | None:
    if not turn.item.live_every_s:
        return None
    from pipeline.stages.live import Live

    return Live(Path(turn.directory) / f"{turn.item.file}.live.webp", turn.item.live_every_s)
