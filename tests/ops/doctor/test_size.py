import json
from pathlib import Path

import pytest

from ops.doctor.size import Size
from pipeline.limits import RequestError

WAN, FLUX = {"patch_size": [1, 2, 2]}, {"patch_size": 1}


def model(folder: Path, **vae: object) -> Path:
    (folder / "vae").mkdir()
    (folder / "vae" / "config.json").write_text(json.dumps(vae))
    return folder


def test_a_videos_tokens_are_its_frames_rows_and_columns(tmp_path: Path) -> None:
    assert Size(832, 480).tokens(model(tmp_path), WAN) == 21 * 30 * 52
    assert Size(832, 480, 1).tokens(tmp_path, WAN) == 30 * 52


def test_another_vae_makes_fewer(tmp_path: Path) -> None:
    folder = model(tmp_path, scale_factor_spatial=16, scale_factor_temporal=4)
    assert Size(1280, 704, 121).tokens(folder, WAN) == 31 * 22 * 40


def test_what_nobody_says_is_the_familys(tmp_path: Path) -> None:
    assert Size().tokens(model(tmp_path), WAN) == 21 * 30 * 52
    index = tmp_path / "model_index.json"
    index.write_text(json.dumps({"boundary_ratio": 0.875}))
    assert Size().tokens(tmp_path, WAN) == 21 * 45 * 80, "1280x720, 81 frames"
    index.write_text(json.dumps({"boundary_ratio": None, "expand_timesteps": True}))
    assert Size().tokens(tmp_path, WAN) == 31 * 44 * 80, "1280x704, 121 frames"
    config = {"block_out_channels": [128, 256, 512, 512]}
    (tmp_path / "vae" / "config.json").write_text(json.dumps(config))
    assert Size().tokens(tmp_path, FLUX) == 64 * 64, "1024x1024"


def test_an_image_models_tokens_are_its_rows_and_columns(tmp_path: Path) -> None:
    folder = model(tmp_path, block_out_channels=[128, 256, 512, 512])
    assert Size(1024, 512).tokens(folder, FLUX) == 64 * 32
    assert Size(1024, 512, 1).tokens(folder, FLUX) == 64 * 32
    with pytest.raises(
        RequestError, match=r"^num_frames must be 1: the model makes images, got 81$"
    ):
        Size(1024, 512, 81).tokens(folder, FLUX)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (Size(850, 480), "width must be a multiple of 16, such as 848 or 864, got 850"),
        (Size(832, 10), "height must be a multiple of 16, such as 16 or 32, got 10"),
        (Size(-832, 480), "width must be a multiple of 16, such as 16 or 32, got -832"),
        (Size(832, 480, 80), "num_frames must be 4k+1, such as 77 or 81, got 80"),
        (Size(832, 480, -3), "num_frames must be 4k+1, such as 1 or 5, got -3"),
    ],
)
def test_what_the_model_cannot_make_is_refused_not_rounded(
    tmp_path: Path, size: Size, words: str
) -> None:
    with pytest.raises(RequestError) as refused:
        size.tokens(model(tmp_path), WAN)
    assert str(refused.value) == words


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (Size(99200, 480), "width must be at most 1280, got 99200"),
        (Size(832, 1296), "height must be at most 1280, got 1296"),
        (Size(832, 480, 100001), "num_frames must be at most 161, got 100001"),
    ],
)
def test_more_than_the_family_makes_is_refused_with_its_limit(
    tmp_path: Path, size: Size, words: str
) -> None:
    with pytest.raises(RequestError) as refused:
        size.tokens(model(tmp_path), WAN)
    assert str(refused.value) == words


def test_a_short_rotary_table_reaches_less_far(tmp_path: Path) -> None:
    short = {**WAN, "rope_max_seq_len": 20}
    with pytest.raises(RequestError, match=r"^width must be at most 320, got 832$"):
        Size(832, 320).tokens(model(tmp_path), short)
    with pytest.raises(RequestError, match=r"^num_frames must be at most 77, got 81$"):
        Size(320, 320).tokens(tmp_path, short)


def test_an_image_model_has_the_limits_of_its_own(tmp_path: Path) -> None:
    folder = model(tmp_path, block_out_channels=[128, 256, 512, 512])
    assert Size(2048, 2048).tokens(folder, FLUX) == 128 * 128
    with pytest.raises(RequestError, match=r"^height must be at most 2048, got 100000$"):
        Size(1024, 100000).tokens(folder, FLUX)


def test_the_directorys_own_card_sets_limits_and_what_is_omitted(tmp_path: Path) -> None:
    sizes = {"width": 64, "height": 96, "num_frames": 9, "max_width": 2560}
    (tmp_path / "card.json").write_text(json.dumps({**sizes, "name": "own", "max_height": "high"}))
    assert Size().tokens(model(tmp_path), WAN) == 3 * 6 * 4
    assert Size(2560, 1280).tokens(tmp_path, WAN) == 3 * 80 * 160
    with pytest.raises(RequestError, match="width must be at most 2560, got 2576"):
        Size(2576, 480).tokens(tmp_path, WAN)


def test_a_model_that_tells_no_geometry_has_none(tmp_path: Path) -> None:
    assert Size(850, 480).tokens(tmp_path, WAN) is None
    assert Size(850, 480).tokens(model(tmp_path), {}) is None
