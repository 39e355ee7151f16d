import json
import signal
from pathlib import Path

import pytest

from ops.bench.faults import relays, report


def test_a_standby_leads_soon_behind_a_relay_that_is_told_to_stop(tmp_path: Path) -> None:
    with relays(tmp_path) as pair:
        assert 0 < pair.hand_over(signal.SIGTERM) < 60


def test_the_report_has_the_medians_and_every_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    figures = {"cancel": [0.5, 9.25, 1.5], "SIGKILL": [4.0]}
    report(figures, tmp_path / "faults.json")
    assert json.loads((tmp_path / "faults.json").read_text())["figures"] == figures
    row = next(line for line in capsys.readouterr().out.splitlines() if "cancel" in line)
    assert [cell.strip() for cell in row.split("│")[2:5]] == ["1.50", "0.50", "9.25"]
