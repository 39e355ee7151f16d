from __future__ import annotations

import logging
import logging.handlers
from collections.abc import Callable
from pathlib import Path
from queue import Queue
from typing import Any
from unittest.mock import Mock

import av
import numpy as np
import pytest

from pipeline.gang.protocol import ItemResult
from pipeline.layout import Layout
from pipeline.limits import RequestError
from pipeline.parallel.ranks import Ranks
from tests.fixtures.ranks import RankPool
from tests.pipeline import engines
from tests.pipeline.engines import Recorder
from tests.pipeline.poison import poisoned

Pools = Callable[[int], RankPool]


def generate(ranks: Ranks, model: Path, layout: Layout, file: Path, params: dict[str, Any]) -> Any:
    engine = engines.load(ranks, model, layout)
    control = Recorder()
    result = engine.generate(engines.request_for(engine, **params), file, control)
    return result, control.heard


def test_a_video_lies_where_it_was_asked_for(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path
) -> None:
    file = tmp_path / "clip.mp4"
    params = {"width": 96, "height": 64, "num_frames": 13, "fps": 12}
    first, second = rank_pools(2).run(generate, tiny_wan, Layout(ulysses=2), file, params)
    result, heard = first
    assert isinstance(result, ItemResult)
    assert (result.width, result.height, result.num_frames, result.fps) == (96, 64, 13, 12)
    assert (result.file, result.content_type, result.seed) == ("clip.mp4", "video/mp4", 7)
    assert result.size_bytes == file.stat().st_size
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]
    with av.open(file) as container:
        assert sum(1 for _ in container.decode(video=0)) == 13
    assert list(result.timings_s) == [
        "input_validation",
        "text_encoding",
        "image_encoding",
        "latent_preparation",
        "timestep_preparation",
        "denoising",
        "decoding",
    ]
    assert heard == [
        ("text_encoding", 0, 1),
        ("text_encoding", 1, 1),
        *(("denoising", step, 4) for step in range(5)),
        *(("decoding", frames, 13) for frames in (0, 1, 13)),
    ]
    assert second == (None, [])


def test_one_frame_is_a_png(rank_pools: Pools, tiny_wan: Path, tmp_path: Path) -> None:
    file = tmp_path / "picture"
    result, _ = rank_pools(1).one(generate, tiny_wan, Layout(), file, {"num_frames": 1})
    assert (result.content_type, result.num_frames) == ("image/png", 1)
    assert file.read_bytes().startswith(b"\x89PNG")


def cancel_then_generate(
    ranks: Ranks, model: Path, folder: Path, stop_after: tuple[str, int]
) -> tuple[str, list[Any], list[str], Any]:
    """Cancel one request, then run it again on the same engine."""
    from pipeline.engine import Cancelled

    engine = engines.load(ranks, model, Layout(ulysses=2))
    request = engines.request_for(engine)
    control = Recorder(stop_after)
    outcome = "finished"
    try:
        engine.generate(request, folder / "clip.mp4", control)
    except Cancelled:
        outcome = "cancelled"
    left = sorted(path.name for path in folder.iterdir())
    ranks.agree(True)  # nobody writes before all have looked
    raw = folder / "again.npy"
    engine.generate(request, folder / "again.mp4", Recorder(), frames_file=raw)
    return outcome, control.heard, left, np.load(raw) if ranks.rank == 0 else None


@pytest.mark.parametrize("stop_after", [("denoising", 0), ("denoising", 2), ("denoising", 4)])
def test_cancel_stops_all_ranks_at_the_same_step(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path, stop_after: tuple[str, int]
) -> None:
    first, second = rank_pools(2).run(cancel_then_generate, tiny_wan, tmp_path, stop_after)
    unhurt = rank_pools(2).one(engines.frames, tiny_wan, Layout(ulysses=2), tmp_path, {})
    assert (first[0], second[0]) == ("cancelled", "cancelled")
    assert first[1][-1] == (*stop_after, 4)
    assert first[2] == []
    np.testing.assert_array_equal(first[3], unhurt)


def test_cancel_while_decoding_leaves_the_ranks_in_step_and_no_file(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path
) -> None:
    first, second = rank_pools(2).run(cancel_then_generate, tiny_wan, tmp_path, ("decoding", 1))
    assert (first[0], second[0]) == ("cancelled", "finished")
    assert first[1][-1] == ("decoding", 1, 9)
    assert first[2] == []
    assert first[3] is not None


def fail_to_write(ranks: Ranks, model: Path, file: Path, room_bytes: int) -> tuple[str, bool]:
    """Generate without room on the disk, then with it."""
    from pipeline.engine import OutputError

    engine = engines.load(ranks, model, Layout(cfg=2))
    request = engines.request_for(engine)
    message = ""
    with engines.little_room(room_bytes):
        try:
            engine.generate(request, file, Recorder())
        except OutputError as error:
            message = str(error)
    again = file.with_name("again.mp4")
    file.parent.mkdir(exist_ok=True)
    engine.generate(request, again, Recorder())
    return message, ranks.rank != 0 or again.exists()


@pytest.mark.parametrize("folder", ["", "missing"])
def test_a_disk_that_refuses_is_an_output_error_on_rank_0_alone(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path, folder: str
) -> None:
    file = tmp_path / folder / "clip.mp4"
    first, second = rank_pools(2).run(fail_to_write, tiny_wan, file, 1000)
    assert first[0].startswith(f"cannot write {file.name}: ")
    assert second[0] == ""
    assert first[1]
    assert not file.exists()
    assert not file.with_name("clip.mp4.part").exists()


def make_nothing(ranks: Ranks, model: Path, file: Path) -> list[str]:
    """What two generations after each other fail of."""
    from pipeline.engine import NotFinite

    engine = engines.load(ranks, model, Layout(ulysses=2))
    failures = []
    for _ in range(2):
        try:
            engine.generate(engines.request_for(engine), file, Recorder())
        except NotFinite as error:
            failures.append(str(error))
    return failures


def test_frames_of_nan_are_told_on_rank_0_alone_and_not_kept(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path
) -> None:
    vae = ("vae/diffusion_pytorch_model", "decoder.conv_out.bias", ...)
    model = poisoned(tiny_wan, tmp_path / "model", *vae)
    first, second = rank_pools(2).run(make_nothing, model, tmp_path / "clip.mp4")
    assert len(first) == 2
    assert all(text.startswith("the decoded frames are not finite") for text in first)
    assert second == []
    assert not list(tmp_path.glob("clip.mp4*"))


def see_nan(ranks: Ranks, seen_by: int) -> str:
    """What this rank hears at a step's end at which only rank `seen_by` has seen NaN."""
    from pipeline.engine import NotFinite
    from pipeline.stages.control import Steps

    try:
        Steps(Recorder(), ranks).agree_to_go_on(3, Mock(), finite=ranks.rank != seen_by)
    except NotFinite as error:
        return str(error)
    return ""


@pytest.mark.parametrize("seen_by", [0, 1])
def test_nan_on_one_rank_ends_the_step_on_all(rank_pools: Pools, seen_by: int) -> None:
    for heard in rank_pools(2).run(see_nan, seen_by):
        assert heard.startswith("the latent is not finite after step 3: ")
    assert rank_pools(2).run(see_nan, 2) == ["", ""]


def warned(ranks: Ranks, model: Path, folder: Path, scale: float) -> list[str]:
    """What the engine says of a request of this guidance scale under CFG parallel."""
    engine, said = engines.load(ranks, model, Layout(cfg=2)), Queue[logging.LogRecord]()
    heard = logging.handlers.QueueHandler(said)
    logging.getLogger("pipeline.engine").addHandler(heard)
    request = engines.request_for(engine, guidance_scale=scale, num_inference_steps=1)
    try:
        engine.generate(request, folder / "clip.mp4", Recorder())
    finally:
        logging.getLogger("pipeline.engine").removeHandler(heard)
    return [said.get().getMessage() for _ in range(said.qsize())]


def test_a_request_that_leaves_half_of_cfg_parallels_ranks_idle_is_said_once(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path
) -> None:
    first, second = rank_pools(2).run(warned, tiny_wan, tmp_path, 1.0)
    assert [line.partition(":")[0] for line in first] == [
        "guidance_scale 1 leaves one branch a step"
    ]
    assert second == []
    assert rank_pools(2).run(warned, tiny_wan, tmp_path, 5.0) == [[], []]


def refuse(ranks: Ranks, model: Path, file: Path, changes: dict[str, Any]) -> str:
    engine = engines.load(ranks, model, Layout(ulysses=2))
    request = engines.request_for(engine).model_copy(update=changes)
    try:
        engine.generate(request, file, Recorder())
    except RequestError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"width": 16, "height": 16, "num_frames": 1, "workload": "t2i"},
            "size is too small for 2 ranks: tokens to share: 1, got '16x16'",
        ),
        ({"width": 72}, "width must be a multiple of 16, got 72"),
        ({"num_inference_steps": 501}, "num_inference_steps must be from 1 to 500, got 501"),
    ],
)
def test_a_bad_request_is_refused_by_every_rank(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path, changes: dict[str, Any], words: str
) -> None:
    answers = rank_pools(2).run(refuse, tiny_wan, tmp_path / "clip.mp4", changes)
    assert answers == [words, words]


def test_one_step_is_enough(rank_pools: Pools, tiny_wan: Path, tmp_path: Path) -> None:
    params = {"num_inference_steps": 1}
    result, _ = rank_pools(1).one(generate, tiny_wan, Layout(), tmp_path / "clip.mp4", params)
    assert result.size_bytes > 0


def generate_in(ranks: Ranks, model: Path, file: Path, dtype: str) -> tuple[str, int]:
    engine = engines.load(ranks, model, Layout(ulysses=2), dtype=dtype)
    result = engine.generate(engines.request_for(engine), file, Recorder())
    return engine.dtype, 0 if result is None else result.size_bytes


def test_bfloat16_passes_between_ranks(rank_pools: Pools, tiny_wan: Path, tmp_path: Path) -> None:
    file = tmp_path / "clip.mp4"
    dtype, size_bytes = rank_pools(2).one(generate_in, tiny_wan, file, "bfloat16")
    assert dtype == "bfloat16"
    assert size_bytes > 0
