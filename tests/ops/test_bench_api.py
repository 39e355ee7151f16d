"""`rushes bench api` measures real processes."""

from __future__ import annotations

import json
from pathlib import Path

from ops.bench.api import run_api_bench


def test_every_side_is_measured(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    assert run_api_bench(0.5, 1, report) == 0
    told = json.loads(report.read_text())
    assert len(told["a_second"]) == 4
    assert all(rate > 0 for rates in told["a_second"].values() for rate in rates)
    assert told["accept_share"] > 0
    assert told["get_share"] > 0
