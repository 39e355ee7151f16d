"""The stages of an attempt, by its words."""

from __future__ import annotations

import pytest

from worker.timeline import Timeline


def test_a_stage_lasts_from_the_word_before_to_its_own_last() -> None:
    now = 100.0
    timeline = Timeline(lambda: now)
    words = [(101.0, "text_encoding", 0), (103.0, "denoising", 0), (105.0, "denoising", 0),
             (106.0, "decoding", 0), (107.0, "denoising", 1), (108.0, "storing", 0),
             (110.5, "storing", 0)]  # fmt: skip
    for now, stage, item in words:  # noqa: B007 - the clock reads it
        timeline.note(stage, item)

    assert [(each.stage, each.item, each.began_at, each.ended_at) for each in timeline.phases] == [
        ("text_encoding", 0, 100.0, 101.0),
        ("denoising", 0, 101.0, 105.0),
        ("decoding", 0, 105.0, 106.0),
        ("denoising", 1, 106.0, 107.0),
        ("storing", 0, 107.0, 110.5),
    ]
    assert timeline.seconds() == {"step": pytest.approx(5 / 3), "store": 3.5}


def test_an_attempt_that_said_nothing_has_no_figures() -> None:
    assert Timeline().seconds() == {}
