"""The stages of an attempt, by its words."""

from __future__ import annotations

import pytest

from worker.timeline import Timeline


def test_a_stage_lasts_from_its_first_word_to_its_last() -> None:
    now = 100.0
    timeline = Timeline(lambda: now)
    words = [(101.0, "text_encoding", 0, 1), (102.0, "denoising", 0, 0), (103.0, "denoising", 0, 1),
             (105.0, "denoising", 0, 2), (107.0, "denoising", 1, 1), (108.0, "storing", 0, 0),
             (110.5, "storing", 0, 1)]  # fmt: skip
    for now, stage, item, step in words:  # noqa: B007 - the clock reads it
        timeline.note(stage, item, step)

    phases = [(each.stage, each.item, each.began_at, each.ended_at) for each in timeline.phases]
    assert phases == [
        ("text_encoding", 0, 100.0, 101.0),
        ("denoising", 0, 102.0, 105.0),
        ("denoising", 1, 105.0, 107.0),
        ("storing", 0, 108.0, 110.5),
    ]
    assert timeline.seconds() == {"step": pytest.approx(5 / 3), "store": 2.5}


def test_an_attempt_that_said_nothing_has_no_figures() -> None:
    assert Timeline().seconds() == {}
