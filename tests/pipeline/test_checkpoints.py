"""A run that was stopped goes on from its checkpoint, and its files are those of an undisturbed run.

The ranks' own loop runs here inside the tests' ranks, between a parent's two ends.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pipeline.gang.protocol import (
    Checkpoint,
    Done,
    Failed,
    Message,
    Progress,
    Resumed,
    Run,
    RunItem,
)
from pipeline.layout import Layout
from pipeline.parallel.ranks import Ranks
from tests.fixtures.ranks import RankPool
from tests.pipeline import engines

STEPS = 6
Pools = Callable[[int], RankPool]


@dataclass
class Parent:
    """Hears rank 0, and asks it to stop once it has reported a step; with a checkpoint, or without."""

    stop_at: tuple[int, str, int] | None = None
    checkpoint: bool = True
    heard: list[Message] = field(default_factory=list)

    def send(self, message: Message) -> None:
        self.heard.append(message)

    def stop_requested(self, run_id: str) -> bool:
        places = [(m.item, m.stage, m.step) for m in self.heard if isinstance(m, Progress)]
        return self.stop_at in places

    def checkpoint_requested(self, run_id: str) -> bool:
        return self.checkpoint and self.stop_requested(run_id)


def perform(
    ranks: Ranks, place: tuple[Path, Layout], directory: Path, parent: Parent, more: dict[str, Any]
) -> list[Message] | None:
    """What rank 0 says of a run of two outputs on a gang that has just started."""
    from pipeline.gang import lead, rank

    bounded = more.pop("bounded", False)
    engine = engines.load(ranks, *place, step_cache=bounded)
    if ranks.rank > 0:
        rank._follow(engine, ranks)
        return None
    items = tuple(
        RunItem(
            request=engines.request_for(engine, seed=seed, num_inference_steps=STEPS, size="64x64"),
            file=f"{seed}",
            previews=True,
        )
        for seed in (1, 2)
    )
    run = Run(run_id="r", directory=str(directory), items=items, **more)
    answer = lead._run(engine, ranks, run, parent, parent)  # type: ignore[arg-type]
    ranks.broadcast_text("")
    return [*parent.heard, answer]


@dataclass
class Case:
    """A model on a layout, and what an undisturbed run of it makes."""

    pool: RankPool
    model: Path
    layout: Layout
    folder: Path
    kept: Path
    """What the tests of this model and layout share."""

    def run(self, directory: Path, parent: Parent | None = None, **more: Any) -> list[Message]:
        directory.mkdir(exist_ok=True)
        heard = self.pool.run(
            perform, (self.model, self.layout), directory, parent or Parent(), more
        )[0]
        if isinstance(heard, Exception):
            raise heard
        messages: list[Message] = heard
        return messages

    def undisturbed(self) -> dict[str, bytes]:
        whole = self.kept / "whole"
        if not whole.exists():
            heard = self.run(whole)
            assert isinstance(heard[-1], Done)
            assert not [message for message in heard if isinstance(message, Checkpoint)]
        return contents(whole)

    def stopped(self, parent: Parent, **more: Any) -> tuple[Path, list[Checkpoint]]:
        """The directory of the next attempt, with what the stopped one left for it."""
        first, second = self.folder / "first", self.folder / "second"
        heard = self.run(first, parent, **more)
        assert isinstance(heard[-1], Failed)
        assert heard[-1].code == "cancelled"
        checkpoints = [message for message in heard if isinstance(message, Checkpoint)]
        second.mkdir()
        for name in checkpoints[-1].files:
            own = Path(name)
            stem = "resume" if own.stem == checkpoints[-1].name else own.stem
            shutil.copyfile(first / name, second / f"{stem}{own.suffix}")
        return second, checkpoints

    def stopped_once(self) -> Path:
        """The same, stopped in its second output; each caller has a directory of its own."""
        kept = self.kept / "stopped"
        if not kept.exists():
            second, checkpoints = self.stopped(Parent(stop_at=(1, "denoising", 3)))
            assert [(c.item, c.step, c.steps) for c in checkpoints] == [(1, 3, STEPS)]
            shutil.copytree(second, kept)
        return Path(shutil.copytree(kept, self.folder / "next"))


def contents(directory: Path) -> dict[str, bytes]:
    return {
        path.name: path.read_bytes()
        for path in sorted(directory.iterdir())
        if path.suffix not in {".json", ".safetensors"}
    }


def resumed(heard: list[Message]) -> list[tuple[int, int, str]]:
    return [(m.item, m.step, m.refused) for m in heard if isinstance(m, Resumed)]


def items_made(heard: list[Message]) -> set[int]:
    return {m.item for m in heard if isinstance(m, Progress)}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kept")


@pytest.fixture
def case(
    request: pytest.FixtureRequest,
    rank_pools: Pools,
    tmp_path: Path,
    kept: Path,
) -> Case:
    family, layout = request.param
    fixture, _, name = family.partition("/")
    model = request.getfixturevalue(fixture) / name
    own = kept / f"{name or fixture}-{layout}"
    own.mkdir(exist_ok=True)
    return Case(rank_pools(layout.gang_size), model, layout, tmp_path, own)


ALL = pytest.mark.parametrize(
    "case",
    [
        ("tiny_wan", Layout()),
        ("tiny_wan", Layout(ulysses=2)),
        ("tiny_wan", Layout(cfg=2)),
        ("tiny_families/flux2_base", Layout()),
        ("tiny_families/flux2_base", Layout(ulysses=2)),
    ],
    indirect=True,
    ids=["wan-1", "wan-ulysses2", "wan-cfg2", "flux2-1", "flux2-ulysses2"],
)
WAN_1 = pytest.mark.parametrize("case", [("tiny_wan", Layout())], indirect=True, ids=[""])
WAN_2 = pytest.mark.parametrize("case", [("tiny_wan", Layout(ulysses=2))], indirect=True, ids=[""])


@ALL
def test_the_outputs_are_the_same_and_finished_ones_are_not_made_again(case: Case) -> None:
    expected = case.undisturbed()
    second = case.stopped_once()

    heard = case.run(second, resume="resume")

    assert isinstance(heard[-1], Done)
    assert resumed(heard) == [(1, 3, "")]
    assert items_made(heard) == {1}
    assert [result.seed for result in heard[-1].results] == [1, 2]
    assert contents(second) == expected


@WAN_2
def test_a_gang_stopped_while_it_decodes_need_not_denoise_again(case: Case) -> None:
    expected = case.undisturbed()
    second, checkpoints = case.stopped(Parent(stop_at=(0, "decoding", 1)))
    assert [(c.item, c.step) for c in checkpoints] == [(0, STEPS)]

    heard = case.run(second, resume="resume")

    assert resumed(heard) == [(0, STEPS, "")]
    assert contents(second) == expected


@WAN_1
def test_one_is_left_every_so_many_steps_and_none_at_the_very_beginning(case: Case) -> None:
    second, checkpoints = case.stopped(
        Parent(stop_at=(1, "denoising", 4), checkpoint=False), checkpoint_steps=4
    )
    assert [(c.item, c.step) for c in checkpoints] == [(0, 4), (1, 2)]
    assert [c.name for c in checkpoints] == ["checkpoint-1", "checkpoint-2"]
    assert checkpoints[0].files == ("checkpoint-1.safetensors", "checkpoint-1.json")
    assert {"1", "1-thumbnail.webp", "1-spritesheet.jpg"} <= set(checkpoints[1].files)

    heard = case.run(second, resume="resume", checkpoint_steps=4)

    later = [(m.item, m.step) for m in heard if isinstance(m, Checkpoint)]
    assert later == [(1, 6)], "counted from the beginning, not from where it went on"


@WAN_2
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("other version", "versions: "),
        ("other request", "another request"),
        ("no manifest", "its manifest cannot be read: FileNotFoundError"),
        ("finished output missing", "of its finished outputs 1 is missing"),
        ("tensors cut short", "damaged"),
    ],
)
def test_what_is_of_no_use_is_said_and_the_output_begins_anew(
    case: Case, damage: str, words: str
) -> None:
    expected = case.undisturbed()
    second = case.stopped_once()
    manifest, tensors = second / "resume.json", second / "resume.safetensors"
    told = json.loads(manifest.read_text())
    match damage:
        case "other version":
            told["origin"]["versions"]["torch"] = "1.0"
            manifest.write_text(json.dumps(told))
        case "other request":
            manifest.write_text(json.dumps({**told, "items": "0" * 64}))
        case "no manifest":
            manifest.unlink()
        case "finished output missing":
            (second / "1").unlink()
        case "tensors cut short":
            tensors.write_bytes(tensors.read_bytes()[:1000])

    heard = case.run(second, resume="resume")

    ((item, step, refused),) = resumed(heard)
    assert (item, step) == ((1, 0) if damage == "tensors cut short" else (0, 0))
    assert words in refused
    assert contents(second) == expected


@WAN_2
def test_where_steps_may_be_foretold_none_is_from_behind_a_checkpoint(case: Case) -> None:
    """Resumed or not: else the two would part there."""
    more: dict[str, Any] = {"bounded": True, "checkpoint_steps": 4}
    case.run(case.folder / "whole", **more)
    second, checkpoints = case.stopped(
        Parent(stop_at=(1, "denoising", 3), checkpoint=False), **more
    )
    assert [(c.item, c.step) for c in checkpoints] == [(0, 4), (1, 2)]

    heard = case.run(second, resume="resume", **more)

    assert resumed(heard) == [(1, 2, "")]
    assert contents(second) == contents(case.folder / "whole")


@WAN_1
def test_a_latent_that_is_not_finite_is_not_kept(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert case.pool.one(lost_to_nan, case.model, case.folder) == 0


def lost_to_nan(ranks: Ranks, model: Path, folder: Path) -> int:
    """How many checkpoints a run leaves whose model computes NaN from step 2 on."""
    import torch

    engine = engines.load(ranks, model, Layout())
    (denoising,) = [stage for stage in engine.model.stages if stage.name == "denoising"]
    predict = denoising._predict
    denoising._predict = lambda state, step, branch: (
        predict(state, step, branch) * (torch.nan if step else 1)
    )
    from pipeline.gang import lead

    parent = Parent()
    item = RunItem(request=engines.request_for(engine, num_inference_steps=4), file="1")
    run = Run(run_id="r", directory=str(folder), items=(item,), checkpoint_steps=2)
    answer = lead._run(engine, ranks, run, parent, parent)  # type: ignore[arg-type]
    assert isinstance(answer, Failed)
    assert "not finite" in answer.message
    return sum(isinstance(message, Checkpoint) for message in parent.heard)
