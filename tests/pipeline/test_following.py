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

from pipeline.layout import Layout
from pipeline.parallel.following import StepLost, follow
from pipeline.parallel.ledger import Ledger
from pipeline.parallel.ranks import Ranks
from tests.fixtures.ranks import RankPool
from tests.pipeline import engines

Pools = Callable[[int], RankPool]

SMALL: dict[str, Any] = {"num_inference_steps": 2}


@dataclass(frozen=True)
class Fault:
    """Ranks that find no memory when a module is used for the second time."""

    layout: Layout
    ranks: tuple[int, ...]
    model: str = "WanTransformer3DModel"
    module: str = "blocks.1.ffn"
    tiling: str = "off"

    def __str__(self) -> str:
        return f"{self.model}-{self.layout}-{self.ranks}".replace(" ", "")

    def happen(self) -> list[Any]:
        """From now on; returns the hooks."""
        used = 0

        def count(*_: object) -> None:
            nonlocal used
            used += 1
            if used == 2:
                raise torch.OutOfMemoryError("no memory left (made up)")

        live = [each for each in gc.get_objects() if type(each).__name__ == self.model]
        return [each.get_submodule(self.module).register_forward_pre_hook(count) for each in live]


def fail_and_go_on(ranks: Ranks, model: Path, folder: Path, fault: Fault) -> tuple[Any, Any]:
    """A turn in which a rank runs out of memory, then the same turn unhurt."""
    from pipeline.gang.protocol import RunItem
    from pipeline.gang.rank import Turn, _take_turn
    from pipeline.stages.control import Silent

    engine = engines.load(ranks, model, fault.layout, vae_tiling=fault.tiling)
    request = engines.request_for(engine, **SMALL)
    item = RunItem(request=request, file="clip.mp4", return_frames=True)
    turn = Turn(run_id="r", directory=str(folder), item=item)
    control = Silent()
    hooks = fault.happen() if ranks.rank in fault.ranks else []
    failed, _ = _take_turn(engine, ranks, turn, control)
    for hook in hooks:
        hook.remove()
    done, _ = _take_turn(engine, ranks, turn, control)
    return failed, done


@pytest.mark.parametrize(
    "fault",
    [
        Fault(Layout(ulysses=2), (1,)),
        Fault(Layout(ulysses=2), (0, 1)),
        Fault(Layout(ring=2), (1,)),
        Fault(Layout(cfg=2), (1,)),
        Fault(Layout(tp=2), (0,)),
        Fault(Layout(cfg=2, ulysses=2), (3,)),
        Fault(Layout(ring=2, ulysses=2), (1, 2)),
        Fault(Layout(ulysses=2), (0,), "AutoencoderKLWan", "decoder"),
        Fault(Layout(ulysses=2), (1,), "UMT5EncoderModel", "encoder.block.0"),
    ],
    ids=str,
)
def test_a_rank_without_memory_fails_the_item_and_not_the_gang(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path, fault: Fault
) -> None:
    pool = rank_pools(fault.layout.gang_size)
    answers = pool.run(fail_and_go_on, tiny_wan, tmp_path, fault)

    for failed, _ in answers:
        assert (failed.code, failed.fatal) == ("out_of_memory", False)
        for rank in range(fault.layout.gang_size):
            assert (f"rank {rank}: OutOfMemoryError" in failed.message) == (rank in fault.ranks)
        assert "num_frames 5 instead of 9" in failed.message
    assert answers[0][1].num_frames == 9
    unhurt = pool.one(engines.frames, tiny_wan, fault.layout, tmp_path, SMALL)
    np.testing.assert_array_equal(np.load(tmp_path / "clip.mp4.npy"), unhurt)


def test_what_no_ledger_tells_of_cannot_be_followed(tmp_path: Path) -> None:
    failing, waiting = (Ledger(tmp_path / "ledger", rank, 2) for rank in range(2))
    waiting.lose_sight()
    with pytest.raises(StepLost):
        follow(failing, torch.device("cpu"))
