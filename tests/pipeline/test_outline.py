"""What a layout is held against before a model is loaded; none of these directories has weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pipeline.gang.placement import plan
from pipeline.layout import Layout
from pipeline.options import EngineOptions
from pipeline.outline import Outline

CPU = {"device": "cpu", "count": 2, "visible_variable": ""}


def directory(
    folder: Path, *, index: dict[str, Any], card: dict[str, Any], heads: object = 6
) -> str:
    (folder / "transformer").mkdir()
    (folder / "model_index.json").write_text(json.dumps(index))
    (folder / "card.json").write_text(json.dumps(card))
    config = {"num_attention_heads": heads}
    (folder / "transformer" / "config.json").write_text(json.dumps(config))
    return str(folder)


@pytest.mark.parametrize(
    ("index", "card", "guided"),
    [
        ({}, {}, True),
        ({"is_distilled": False}, {}, True),
        ({"is_distilled": True}, {}, False),
        ({}, {"max_guidance_scale": 1.0}, False),
        ({"is_distilled": True}, {"max_guidance_scale": 5}, True),
        ({"is_distilled": True}, {"max_guidance_scale": "high"}, False),
    ],
)
def test_a_model_is_guided_unless_its_index_or_its_card_says_no(
    tmp_path: Path, index: dict[str, Any], card: dict[str, Any], guided: bool
) -> None:
    assert Outline.read(directory(tmp_path, index=index, card=card)) == Outline(6, guided)


@pytest.mark.parametrize("heads", [None, "six", 0, [6]])
def test_heads_that_are_no_number_are_not_known(tmp_path: Path, heads: object) -> None:
    assert Outline.read(directory(tmp_path, index={}, card={}, heads=heads)).heads is None


def test_nothing_is_known_of_what_is_no_directory_here() -> None:
    assert Outline.read("who/what") == Outline()


def test_cfg_parallel_of_a_model_without_guidance_is_refused_before_it_is_loaded(
    tmp_path: Path,
) -> None:
    path = directory(tmp_path, index={"is_distilled": True}, card={})
    asked = EngineOptions(model_path=path, num_gpus=4, enable_cfg_parallel=True)
    with pytest.raises(ValueError, match=r" is not guided: .*; without it the ranks share"):
        plan(asked, CPU)
    instead = asked.model_copy(update={"enable_cfg_parallel": False})
    assert plan(instead, CPU) == Layout(ulysses=2, ring=2)
