import socket
from pathlib import Path

import pytest

from ops.doctor.host import GIB, _intel_cards, intel, memory, port

DISCOVERY = "+---+\\n| 0 | Device Name: Intel(R) Arc(TM) Pro B60 Graphics |\\n+---+"


@pytest.mark.parametrize(("gib", "state"), [(24, "warning"), (31, "ok"), (64, "ok")])
def test_memory_is_held_against_what_is_wanted(gib: int, state: str) -> None:
    assert memory(gib * GIB).state == state


def test_a_taken_port_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        number = taken.getsockname()[1]
        assert port("port", "127.0.0.1", number, "another").state == "warning"
    assert port("port", "127.0.0.1", number, "another").state == "ok"


def test_intel_cards_are_counted_where_the_kernel_lists_them(tmp_path: Path) -> None:
    for card, vendor, kind in (
        ("card0", "0x8086", "0x030000"),
        ("card1", "0x10de", "0x030000"),
        ("card2", "0x8086", "0x038000"),
    ):
        device = tmp_path / card / "device"
        device.mkdir(parents=True)
        (device / "vendor").write_text(f"{vendor}\n")
        (device / "class").write_text(f"{kind}\n")
    assert _intel_cards(tmp_path) == 2


@pytest.fixture
def xpu_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place for a fake xpu-smi, first on PATH."""
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    return tmp_path / "xpu-smi"


@pytest.mark.parametrize(
    ("script", "state"),
    [
        (f"printf '{DISCOVERY}'", "ok"),
        ("echo No device discovered", "problem"),
        ("echo Level Zero Initialization Error; exit 1", "problem"),
    ],
)
def test_what_xpu_smi_says_is_told(xpu_smi: Path, script: str, state: str) -> None:
    xpu_smi.write_text(f"#!/bin/sh\n{script}\n")
    xpu_smi.chmod(0o755)
    found = intel(1)[-1]
    assert found.state == state
    assert ("Arc" in found.what) == (state == "ok")
    assert ("usermod -aG render" in found.fix) == (state == "problem")


def test_a_card_without_a_driver_is_a_problem(
    monkeypatch: pytest.MonkeyPatch, xpu_smi: Path
) -> None:
    assert not xpu_smi.exists()
    monkeypatch.setattr("ctypes.util.find_library", lambda _: None)
    assert [one.state for one in intel(1)] == ["ok", "problem", "warning"]
    assert intel(0) == []
