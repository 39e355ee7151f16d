"""One rank that tries every exchange in use and checks the values: `python -m pipeline.parallel.trial`.

For `rushes doctor`, which starts as many as it wants and watches the clock. One JSON line an event:
{"rank", "exchange"} when one begins, and with "problem" (empty: the values were right) when it ends.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed import ProcessGroup

from pipeline.parallel import shift
from pipeline.parallel.collectives import all_gather, all_reduce, all_to_all, arrived
from pipeline.parallel.ranks import Ranks, join

_ROWS = 1024


def _numbered(rank: int, ranks: Ranks) -> torch.Tensor:
    """[1024, 4], every value of which tells whose it is."""
    return torch.full((_ROWS, 4), float(rank + 1), device=ranks.device)


def _all_reduce(ranks: Ranks, group: ProcessGroup) -> bool:
    total = all_reduce(_numbered(ranks.rank, ranks), group)
    return bool((total == sum(range(1, ranks.world_size + 1))).all())


def _all_gather(ranks: Ranks, group: ProcessGroup) -> bool:
    gathered = all_gather(_numbered(ranks.rank, ranks), group)
    return torch.equal(gathered, torch.stack([_numbered(r, ranks) for r in range(group.size())]))


def _reduce_scatter(ranks: Ranks, group: ProcessGroup) -> bool:
    rows = torch.arange(float(group.size()), device=ranks.device)
    under_way = torch.ops._c10d_functional.reduce_scatter_tensor(
        rows, "sum", group.size(), group.group_name
    )
    return bool(arrived(under_way) == ranks.rank * group.size())


def _all_to_all(ranks: Ranks, group: ProcessGroup) -> bool:
    """Uneven: rank r gets r + 1 rows from everybody."""
    sizes = [rank + 1 for rank in range(group.size())]
    sent = torch.full((sum(sizes), 4), float(ranks.rank), device=ranks.device)
    received = all_to_all(sent, [ranks.rank + 1] * group.size(), sizes, group)
    expected = torch.arange(float(group.size()), device=ranks.device)
    return torch.equal(received[:, 0], expected.repeat_interleave(ranks.rank + 1))


def _send_and_receive(ranks: Ranks, group: ProcessGroup) -> bool:
    block = _numbered(ranks.rank, ranks)
    before = (ranks.rank - 1) % group.size()
    return torch.equal(
        shift.point_to_point(block, tuple(block.shape), group)(), _numbered(before, ranks)
    )


def _broadcast(ranks: Ranks, group: ProcessGroup) -> bool:
    block = _numbered(ranks.rank, ranks)
    dist.broadcast(block, src=group.size() - 1, group=group)
    return torch.equal(block, _numbered(group.size() - 1, ranks))


EXCHANGES: dict[str, Callable[[Ranks, ProcessGroup], bool]] = {
    "all_reduce": _all_reduce,
    "all_gather": _all_gather,
    "reduce_scatter": _reduce_scatter,
    "all_to_all": _all_to_all,
    "send/recv": _send_and_receive,
    "broadcast": _broadcast,
}


def main() -> int:
    """Join the others, try each exchange in turn; 1 if one failed."""
    parser = argparse.ArgumentParser(prog="python -m pipeline.parallel.trial")
    parser.add_argument("--rank", type=int, required=True)
    parser.add_argument("--world-size", type=int, required=True)
    parser.add_argument("--rendezvous", type=Path, required=True)
    parser.add_argument("--device", choices=("xpu", "cuda", "cpu"))
    asked = parser.parse_args()
    rank = asked.rank
    _say(rank, "join")
    try:
        ranks = join(
            rank=rank,
            world_size=asked.world_size,
            rendezvous=asked.rendezvous,
            device=asked.device,
        )
    except (ValueError, RuntimeError) as error:
        _say(rank, "join", _in_words(error))
        return 1
    _say(rank, "join", "")
    group = dist.new_group(backend=ranks.backend)
    for name, exchange in EXCHANGES.items():
        _say(rank, name)
        try:
            right = exchange(ranks, group)
        except RuntimeError as error:
            _say(rank, name, _in_words(error))
            return 1  # the others may wait for this one: nothing after it would tell anything
        _say(rank, name, "" if right else "wrong values arrived")
    ranks.leave()
    return 0


def _in_words(error: Exception) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _say(rank: int, exchange: str, problem: str | None = None) -> None:
    event = {"rank": rank, "exchange": exchange}
    if problem is not None:
        event["problem"] = problem
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
