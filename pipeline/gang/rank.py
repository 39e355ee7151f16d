"""One rank of a gang: `python -m pipeline.gang.rank`, started by `pipeline.gang.processes` only.

1. Fasten the belts, so that no rank outlives its parent.
2. Rank 0 reads Init; every rank joins the group and loads its share of the model; Ready.
3. Rank 0 leads: it takes a Run from the parent and tells the others each turn; they follow.
4. A turn ends in step on every rank (finished, cancelled, refused, its file could not be written,
   or a rank had too little memory and followed the others to their next meeting), or it does not:
   then the ranks leave, each having said why, and the parent starts anew.

stdout and stderr are free for logs: the protocol has pipes of its own.
"""

from __future__ import annotations

import argparse
import gc
import logging
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from pydantic import Field

from pipeline.gang import belts, manifest
from pipeline.gang.checkpoints import Checkpoints
from pipeline.gang.mailbox import Mailbox, Outbox
from pipeline.gang.manifest import Manifest
from pipeline.gang.protocol import (
    DeviceInfo,
    Done,
    Failed,
    Init,
    ItemResult,
    Message,
    Progress,
    Ready,
    Resumed,
    Run,
    RunItem,
)
from pipeline.limits import RequestError
from pipeline.options import Device

if TYPE_CHECKING:
    from pipeline.engine import Engine
    from pipeline.parallel.ranks import Ranks
    from pipeline.stages.control import Control
    from pipeline.stages.live import Live
    from pipeline.stages.snapshot import Resume, Snapshot

log = logging.getLogger("pipeline.gang.rank")

EXIT_OUT_OF_STEP = 3
"""Some rank failed where the others may have gone on."""

_LEAVE = ""


class Turn(Message):
    """What rank 0 tells the others to do next; the empty text tells them to leave."""

    run_id: str
    directory: str
    item: RunItem
    resume: str = ""
    """The checkpoint in `directory` that this item goes on from."""
    step: int = 0
    """After which it was made."""
    scheduler: dict[str, Any] = Field(default_factory=dict)
    """The scheduler then."""


class Unservable(Exception):
    """These options, or this model, cannot be served; another start would end the same."""


class OutOfStep(Exception):
    """The ranks may no longer agree on where they are."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


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


def main(argv: list[str] | None = None) -> int:
    """Serve until told to leave. Returns the exit status."""
    place = _parse(argv)
    belts.fasten(place.lifeline)
    for fd in (place.lifeline, place.events, place.commands):
        if fd is not None:
            os.set_inheritable(fd, False)
    logging.basicConfig(
        level=os.environ.get("RUSHES_LOG_LEVEL", "info").upper(),
        format=f"%(asctime)s rank {place.rank} %(levelname)s %(name)s: %(message)s",
    )
    outbox = Outbox(place.events)
    try:
        _serve(place, outbox)
    except OutOfStep as error:
        log.exception("%s: the ranks are out of step", error.failed.run_id)
        outbox.send(error.failed)
        return EXIT_OUT_OF_STEP
    except Unservable as error:
        log.exception("refused")
        outbox.send(Failed(run_id="", code="refused", message=str(error), fatal=True))
        return 1
    except Exception as error:
        log.exception("this rank cannot go on")
        message = f"rank {place.rank}: {_in_words(error)}"
        outbox.send(Failed(run_id="", code="error", message=message, fatal=True))
        return 1
    return 0


def _serve(place: argparse.Namespace, outbox: Outbox) -> None:
    began = time.monotonic()
    mailbox = init = None
    if place.rank == 0:
        mailbox = Mailbox(place.commands)
        init = mailbox.init()

    from pipeline import models
    from pipeline.engine import Engine
    from pipeline.parallel.ranks import join

    ranks = join(
        rank=place.rank,
        world_size=place.world_size,
        rendezvous=place.rendezvous,
        device=place.device,
    )
    shared = ranks.broadcast_text(None if init is None else init.model_dump_json())
    init = Init.model_validate_json(shared)
    try:
        heads = models.heads(init.options.model_path)
        layout = init.options.layout(num_gpus=init.num_gpus, heads=heads)
        engine = Engine.load(init.options, layout, ranks)
    except ValueError as error:
        raise Unservable(str(error).strip().partition("\n")[0][:500]) from error
    devices = ranks.gather_text(_device(ranks).model_dump_json())
    if mailbox is None:
        _follow(engine, ranks)
    else:
        fallbacks = (*ranks.notes, *engine.fallbacks)
        for fallback in fallbacks:
            log.warning("%s", fallback)
        ready = Ready(
            card=engine.card,
            platform=ranks.platform.kind,
            backend=ranks.backend,
            dtype=engine.dtype,
            degrees={name: getattr(layout, name) for name in ("cfg", "ring", "ulysses", "tp")},
            devices=tuple(DeviceInfo.model_validate_json(device) for device in devices),
            load_s=time.monotonic() - began,
            fallbacks=fallbacks,
        )
        outbox.send(ready)
        _lead(engine, ranks, mailbox, outbox)
    ranks.leave()


def _lead(engine: Engine, ranks: Ranks, mailbox: Mailbox, outbox: Outbox) -> None:
    while (run := mailbox.next()) is not None:
        log.info("%s: %d item(s)", run.run_id, len(run.items))
        answer = _run(engine, ranks, run, mailbox, outbox)
        if isinstance(answer, Failed):
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
            outcome, turn_bytes = _take_turn(engine, ranks, turn, control, live)
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
        refused = _first_line(error)
    log.warning("%s: begins anew: %s", run.run_id, refused)
    steps = run.items[0].request.num_inference_steps
    outbox.send(Resumed(run_id=run.run_id, item=0, step=0, steps=steps, refused=refused))
    return None


def _live(turn: Turn) -> Live | None:
    if not turn.item.live_every_s:
        return None
    from pipeline.stages.live import Live

    return Live(Path(turn.directory) / f"{turn.item.file}.live.webp", turn.item.live_every_s)


def _follow(engine: Engine, ranks: Ranks) -> None:
    from pipeline.stages.control import Silent

    while text := ranks.broadcast_text(None):
        _take_turn(engine, ranks, Turn.model_validate_json(text), Silent())


def _take_turn(
    engine: Engine, ranks: Ranks, turn: Turn, control: Control, live: Live | None = None
) -> tuple[ItemResult | Failed | None, int]:
    """One item, on every rank: its result (on rank 0) or how it failed in step; peak bytes of a rank.

    Raises:
        OutOfStep: on more than one rank, anything that is not known to leave them in step.
    """
    from pipeline.engine import Cancelled, NotFinite, OutputError, RankFailed

    file = Path(turn.directory) / turn.item.file
    frames = file.with_name(f"{file.name}.npy") if turn.item.return_frames else None
    ranks.platform.reset_peak_memory(ranks.device)
    outcome: ItemResult | Failed | None
    exhausted: str | None = None
    try:
        outcome = engine.generate(
            turn.item.request,
            file,
            control,
            frames_file=frames,
            previews=turn.item.previews,
            resume=_resume(turn),
            live=live,
        )
    except RequestError as error:
        outcome = Failed(run_id=turn.run_id, code="invalid_request", message=str(error))
    except Cancelled:
        outcome = Failed(run_id=turn.run_id, code="cancelled", message="cancelled")
    except (NotFinite, OutputError) as error:
        outcome = Failed(run_id=turn.run_id, code="error", message=_in_words(error))
    except RankFailed:
        outcome, exhausted = None, ""
    except Exception as error:
        message = f"rank {ranks.rank}: {_in_words(error)}"
        log.exception("%s failed", turn.run_id)
        if ranks.platform.is_out_of_memory(error):
            outcome, exhausted = None, message
        else:
            fatal = ranks.world_size > 1
            outcome = Failed(run_id=turn.run_id, code="error", message=message, fatal=fatal)
            if fatal:
                raise OutOfStep(outcome) from error
    if exhausted is not None:  # outside the handler, whose error's frames hold what has to go
        outcome = _give_memory_back(engine, ranks, turn, exhausted)
    elif isinstance(outcome, Failed):
        gc.collect()
    try:
        peaks = ranks.gather_text(str(ranks.platform.peak_memory_bytes(ranks.device)))
    except RankFailed:  # one that had nothing more to do for a rank that failed after all
        outcome = _give_memory_back(engine, ranks, turn, "")
        peaks = ranks.gather_text(str(ranks.platform.peak_memory_bytes(ranks.device)))
    return outcome, max(int(peak) for peak in peaks)


def _give_memory_back(engine: Engine, ranks: Ranks, turn: Turn, exhausted: str) -> Failed:
    """The item failed for want of memory on some rank: all agree, and none keeps anything of it.

    Args:
        engine: knows what would need less.
        ranks: the gang.
        turn: the one that failed.
        exhausted: how this rank failed; empty when another did, of which this one has heard.

    Raises:
        OutOfStep: the others wait for what this rank cannot give.
    """
    from pipeline.parallel.following import StepLost

    advice = engine.advice(turn.item.request)
    gc.collect()
    ranks.platform.empty_cache()
    try:
        if exhausted:
            ranks.drop_out()
        reports = [report for report in ranks.gather_text(exhausted) if report]
    except (StepLost, RuntimeError, MemoryError) as error:
        log.warning("the others cannot be helped: %s", _in_words(error))
        message = f"{exhausted}; {advice}"
        raise OutOfStep(
            Failed(run_id=turn.run_id, code="out_of_memory", message=message, fatal=True)
        ) from error
    message = f"{'; '.join(reports)}; {advice}"
    return Failed(run_id=turn.run_id, code="out_of_memory", message=message)


def _resume(turn: Turn) -> Resume | None:
    from pipeline.stages.snapshot import Resume

    if not turn.resume:
        return None
    file = Path(turn.directory) / f"{turn.resume}.safetensors"
    return Resume(file, turn.step, turn.scheduler)


def _in_words(error: Exception) -> str:
    """One line for people."""
    return f"{type(error).__name__}: {_first_line(error)}"


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:500]


def _device(ranks: Ranks) -> DeviceInfo:
    return DeviceInfo(
        rank=ranks.rank,
        pid=os.getpid(),
        device=str(ranks.device),
        name=ranks.platform.name(ranks.device),
        memory_bytes=ranks.platform.memory_bytes(ranks.device),
    )


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m pipeline.gang.rank", description=__doc__)
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--world-size", type=int, required=True)
    parser.add_argument("--rendezvous", type=Path, required=True)
    parser.add_argument("--device", choices=get_args(Device))
    parser.add_argument("--lifeline", type=int, required=True)
    parser.add_argument("--events", type=int, required=True)
    parser.add_argument("--commands", type=int, help="rank 0 only")
    return parser.parse_args(argv)


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    # Straight out: what a device library still does at exit must not keep a gang from ending.
    os._exit(status)
