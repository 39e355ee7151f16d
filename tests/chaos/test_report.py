"""The table of a run."""

from __future__ import annotations

import io
import json
from pathlib import Path

from rich.console import Console

from tests.chaos.invariants import Violation
from tests.chaos.recovery import Strike
from tests.chaos.report import rows, show, write
from tests.chaos.run import Outcome

OUTCOME = Outcome(
    seed=7,
    strikes=(
        Strike(1, "Redis SIGKILL", "redis", 2.0, ("video_1",)),
        Strike(2, "Redis SIGKILL", "redis", 4.0, ("video_2",)),
        Strike(3, "rank SIGKILL", "worker-0 rank 1", 9.0, ("video_2", "video_3")),
        Strike(4, "rank SIGKILL", "not struck: no gang computes"),
    ),
    skipped={"disk full": "no disk"},
    ends={"completed": 2, "in_progress": 1},
    lost=("video_3",),
    doubled=("video_1",),
    violations=(Violation("one_fence_commits", "video_1", "committed a second time"),),
    took_s=60.0,
    folder="/tmp/somewhere",
)


def test_a_row_a_fault_and_one_for_all() -> None:
    assert rows(OUTCOME) == [
        ("Redis SIGKILL", "2", "0", "1", "3.0", "4.0"),
        ("rank SIGKILL", "1", "1", "0", "9.0", "9.0"),
        ("all", "3", "1", "1", "4.0", "9.0"),
    ]


def test_what_broke_and_how_to_see_it_again_is_said(tmp_path: Path) -> None:
    text = io.StringIO()
    show(OUTCOME, Console(file=text, width=120))
    for said in (
        "one_fence_commits: video_1",
        "SEED=7",
        "/tmp/somewhere",
        "skipped disk full: no disk",
    ):
        assert said in text.getvalue()
    write(OUTCOME, tmp_path / "chaos.json")
    assert json.loads((tmp_path / "chaos.json").read_text())["strikes"][0]["recovered_s"] == 2.0
