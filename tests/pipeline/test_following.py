"""A rank that runs out of memory anywhere: the item fails by that name, the gang does the next one."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.layout import Layout
from pipeline.parallel.following import StepLost, follow
from pipeline.parallel.ledger import Ledger
from pipeline.parallel.ranks import Ranks
from tests.fixtures.ranks import RankPool
from tests.pipeline import engines

Pools = Callable[[int], RankPool]


@dataclass(frozen=True)
class Fault:
    """Ranks that find no memory when a module is used for the second time."""

    layout: Layout
    ranks: tuple[int, ...]
    model: str = "WanTransformer3DModel"
    module: str = "blocks.1.ffn"
    tiles: bool = False

    def __str__(self) -> str:
        text = f"{self.model}-{self.layout}-{self.ranks}{'-tiles' if self.tiles else ''}"
        return text.replace(" ", "")

    def happen(self) -> list[Any]:
        """From now on; returns the hooks."""
        used = 0

        def count(*_: object) -> None:
            nonlocal used
            used += 1
            if used == 2:
                raise torch.OutOfMemoryError("no memory left (made up)")

        modules = [each.get_submodule(self.module) for each in live(self.model)]
        return [module.register_forward_pre_hook(count) for module in modules]


def live(model: str) -> list[Any]:
    """The models of that class that this process holds."""
    return [each for each in gc.get_objects() if type(each).__name__ == model]


def fail_and_go_on(ranks: Ranks, model: Path, folder: Path, fault: Fault) -> tuple[Any, bool]:
    """How a turn ends in which a rank runs out of memory, and whether the next is as the one before."""
    from pipeline.gang.protocol import RunItem
    from pipeline.gang.turn import Turn, take_turn
    from pipeline.stages.control import Silent

    engine = engines.load(ranks, model, fault.layout, vae_tiling="on" if fault.tiles else "off")
    for vae in live("AutoencoderKLWan") if fault.tiles else []:
        vae.enable_tiling(32, 32, 24, 24)
    request = engines.request_for(engine, num_inference_steps=2)
    item = RunItem(request=request, file="clip.mp4", return_frames=True)
    turn = Turn(run_id="r", directory=str(folder), item=item)
    control = Silent()

    def make() -> Any:
        take_turn(engine, ranks, turn, control)
        return np.load(folder / "clip.mp4.npy") if ranks.rank == 0 else None

    before = make()
    hooks = fault.happen() if ranks.rank in fault.ranks else []
    failed, _ = take_turn(engine, ranks, turn, control)
    for hook in hooks:
        hook.remove()
    return failed, np.array_equal(make(), before)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Layout(ulysses=2), (1,)),
        Fault(Layout(ulysses=2), (0, 1)),
        Fault(Layout(ring=2), (1,)),
        Fault(Layout(tp=2), (0,)),
        Fault(Layout(cfg=2, ulysses=2), (3,)),
        Fault(Layout(ring=2, ulysses=2), (1, 2)),
        Fault(Layout(ulysses=2), (0,), "AutoencoderKLWan", "decoder"),
        Fault(Layout(ulysses=2), (0,), "AutoencoderKLWan", "decoder", tiles=True),
        Fault(Layout(ulysses=2), (1,), "AutoencoderKLWan", "decoder", tiles=True),
        Fault(Layout(ulysses=2), (1,), "UMT5EncoderModel", "encoder.block.0"),
    ],
    ids=str,
)
def test_a_rank_without_memory_fails_the_item_and_not_the_gang(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path, fault: Fault
) -> None:
    answers = rank_pools(fault.layout.gang_size).run(fail_and_go_on, tiny_wan, tmp_path, fault)

    for failed, as_before in answers:
        assert (failed.code, failed.fatal) == ("out_of_memory", False)
        for rank in range(fault.layout.gang_size):
            assert (f"rank {rank}: OutOfMemoryError" in failed.message) == (rank in fault.ranks)
        assert "num_frames 5 instead of 9" in failed.message
        assert as_before


class Allocated(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all tensors that are made within it."""

    bytes: int = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        if func._schema.name.rpartition("::")[2] in ("empty", "zeros", "new_zeros", "new_empty"):
            self.bytes += made.nbytes
        return made


def exchange_or_follow(ranks: Ranks, times: int) -> int:
    """Rank 1 fails at once; the other exchanges a megabyte each way so often. Bytes that rank 1 took."""
    from pipeline.parallel import collectives
    from pipeline.parallel.ranks import RankFailed

    group = ranks.mesh(Layout(ulysses=2)).get_group("ulysses")
    if ranks.rank == 1:
        allocated = Allocated()  # type: ignore[no-untyped-call]
        with allocated:
            ranks.drop_out()
        return allocated.bytes
    rows = torch.ones(2, 128 * 1024)
    with ranks.ledger.in_use():
        for _ in range(times):
            collectives.all_to_all(rows, [1, 1], [1, 1], group)
            collectives.all_reduce(rows, group)
            collectives.all_gather(rows, group)
    with pytest.raises(RankFailed):
        ranks.decide(0)
    return 0


def test_to_follow_takes_the_memory_of_one_exchange_however_many_they_are(
    rank_pools: Pools,
) -> None:
    once = rank_pools(2).run(exchange_or_follow, 1)[1]
    assert rank_pools(2).run(exchange_or_follow, 20)[1] == once
    assert once >= 3 * 2**20, "zeros to send, and room for two ranks' gathered"


def test_what_no_ledger_tells_of_cannot_be_followed(tmp_path: Path) -> None:
    failing, waiting = (Ledger(tmp_path / "ledger", rank, 2) for rank in range(2))
    waiting.lose_sight()
    with pytest.raises(StepLost):
        follow(failing, torch.device("cpu"))
