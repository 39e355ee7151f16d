"""One item, taken by every rank together: what they are told of it, and how it ends in step or does not."""

from __future__ import annotations

import gc
import logging
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from pipeline.gang.protocol import Failed, ItemResult, Message, RunItem
from pipeline.limits import RequestError

if TYPE_CHECKING:
    from pipeline.engine import Engine
    from pipeline.parallel.ranks import Ranks
    from pipeline.stages.control import Control
    from pipeline.stages.live import Live
    from pipeline.stages.snapshot import Resume

log = logging.getLogger("pipeline.gang.turn")


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


class OutOfStep(Exception):
    """The ranks may no longer agree on where they are."""

    def __init__(self, failed: Failed) -> None:
        super().__init__(failed.message)
        self.failed = failed


def take_turn(
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
    except NotFinite as error:
        outcome = Failed(run_id=turn.run_id, code="not_finite", message=first_line(error))
    except OutputError as error:
        outcome = Failed(run_id=turn.run_id, code="error", message=in_words(error))
    except RankFailed:
        outcome, exhausted = None, ""
    except Exception as error:
        message = f"rank {ranks.rank}: {in_words(error)}"
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
        log.warning("the others cannot be helped: %s", in_words(error))
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


def in_words(error: Exception) -> str:
    """One line for people."""
    return f"{type(error).__name__}: {first_line(error)}"


def first_line(error: Exception) -> str:
    """What it says, short enough for a message."""
    return str(error).strip().partition("\n")[0][:500]
