import json
from pathlib import Path

from ops.bench.record import run_record_bench


def test_every_job_goes_through_and_costs_bounded_memory(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    assert run_record_bench(300, file) == 0
    figures = json.loads(file.read_text())
    assert figures["jobs"] == 300
    assert 0 < figures["queued_bytes"] < 8000
    assert 0 < figures["finished_bytes"] < 8000
    assert figures["finish_last_ms"] > 0
