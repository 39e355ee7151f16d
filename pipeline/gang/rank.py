"""One rank of a gang: `python -m pipeline.gang.rank`, started by `pipeline.gang.processes` only.

1. Fasten the belts, so that no rank outlives its parent.
2. Rank 0 reads Init; every rank joins the group and loads its share of the model; Ready.
3. Rank 0 leads (`lead`): it takes a Run from the parent and tells the others each `turn`.
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
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from pipeline.gang import belts
from pipeline.gang.lead import lead
from pipeline.gang.mailbox import Mailbox, Outbox
from pipeline.gang.protocol import DeviceInfo, Failed, Init, Ready
from pipeline.gang.turn import OutOfStep, Turn, first_line, in_words, take_turn
from pipeline.options import Device

if TYPE_CHECKING:
    from pipeline.engine import Engine
    from pipeline.parallel.ranks import Ranks

log = logging.getLogger("pipeline.gang.rank")

EXIT_OUT_OF_STEP = 3
"""Some rank failed where the others may have gone on."""


class Unservable(Exception):
    """These options, or this model, cannot be served; another start would end the same."""


class Unreadable(Exception):
    """The model cannot be read now; another start may."""


def main(argv: list[str] | None = None) -> int:
    """Serve until told to leave. Returns the exit status."""
    place = _parse(argv)
    belts.fasten(place.lifeline)
    for fd in (place.lifeline, place.events, place.commands):
        if fd is not None:
            os.set_inheritable(fd, False)
    set_up_logs(place.rank)
    outbox = Outbox(place.events)
    try:
        _serve(place, outbox)
    except OutOfStep as error:
        log.exception("%s: the ranks are out of step", error.failed.run_id)
        outbox.send(error.failed)
        return EXIT_OUT_OF_STEP
    except (Unservable, Unreadable) as error:
        log.debug("no model", exc_info=True)  # its words are for the parent to say
        code: Literal["refused", "error"] = "refused" if isinstance(error, Unservable) else "error"
        outbox.send(Failed(run_id="", code=code, message=str(error), fatal=True))
        return 1
    except Exception as error:
        log.exception("this rank cannot go on")
        message = f"rank {place.rank}: {in_words(error)}"
        outbox.send(Failed(run_id="", code="error", message=message, fatal=True))
        return 1
    return 0


def set_up_logs(rank: int) -> None:
    """Log to stderr at the level that the service has, each line with the rank's number."""
    logging.basicConfig(
        level=os.environ.get("RUSHES_LOG_LEVEL", "info").upper(),
        format=f"%(asctime)s rank {rank} %(levelname)s %(name)s: %(message)s",
    )
    logging.getLogger("transformers.utils.import_utils").addFilter(_is_news)


def _is_news(record: logging.LogRecord) -> bool:
    """False for transformers' advice to install torchvision: Pillow prepares our images well enough."""
    return "requires torchvision (not installed); falling back" not in record.getMessage()


def _serve(place: argparse.Namespace, outbox: Outbox) -> None:
    began = time.monotonic()
    mailbox = init = None
    if place.rank == 0:
        mailbox = Mailbox(place.commands)
        init = mailbox.init()

    # What is imported stays: to look for garbage meanwhile takes a sixth of the time.
    gc.disable()
    from pipeline import models
    from pipeline.engine import Engine
    from pipeline.parallel.ranks import join

    gc.enable()
    ranks = join(
        rank=place.rank,
        world_size=place.world_size,
        rendezvous=place.rendezvous,
        device=place.device,
    )
    shared = ranks.broadcast_text(None if init is None else init.model_dump_json())
    init = Init.model_validate_json(shared)
    try:
        outline = models.outline(init.options.model_path)
        layout = init.options.layout(num_gpus=init.num_gpus, model=outline)
        engine = Engine.load(init.options, layout, ranks)
    except ValueError as error:
        raise Unservable(first_line(error)) from error
    except OSError as error:
        raise Unreadable(first_line(error)) from error
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
        lead(engine, ranks, mailbox, outbox)
    ranks.leave()


def _follow(engine: Engine, ranks: Ranks) -> None:
    from pipeline.stages.control import Silent

    while text := ranks.broadcast_text(None):
        take_turn(engine, ranks, Turn.model_validate_json(text), Silent())


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
