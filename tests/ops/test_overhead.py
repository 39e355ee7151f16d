import json
from pathlib import Path

import pytest

from ops.bench.overhead import Sample, report


def test_the_report_has_the_medians_and_every_sample(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = [
        Sample(to_start=start, run=1000.0, to_completed=end, to_client=end + 5)
        for start, end in ((10.0, 1.0), (20.0, 100.0), (30.0, 2.0))
    ]
    report(samples, [990.0, 1010.0, 1100.0], tmp_path / "overhead.json")
    found = json.loads((tmp_path / "overhead.json").read_text())
    assert found["jobs"] == 3
    assert found["overhead_median_ms"] == 32.0  # of 11, 120 and 32: not the sum of two medians
    assert found["direct_median_ms"] == 1010.0
    assert found["samples"][1] == {
        "to_start": 20.0,
        "run": 1000.0,
        "to_completed": 100.0,
        "to_client": 105.0,
    }
    shown = capsys.readouterr().out
    assert "DiffGenerator called directly" in shown
    assert "1010.0" in shown
