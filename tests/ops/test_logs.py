from pathlib import Path

import pytest

from ops.stack import logs
from ops.stack.logs import Logs


def test_lines_arrive_whole_whatever_the_pieces(capsys: pytest.CaptureFixture[str]) -> None:
    log = Logs(["a", "longer"])["a"]
    for piece in (b"one\ntw", b"o\r\nth", "rée".encode()[:-1], "rée".encode()[-1:], b""):
        log.feed(piece)
    assert capsys.readouterr().out == "a      | one\na      | two\na      | thrée\n"


def test_bytes_that_are_no_text_do_no_harm(capsys: pytest.CaptureFixture[str]) -> None:
    Logs(["a"])["a"].feed(b"\xff\xfe\n")
    assert capsys.readouterr().out == "a | \N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}\n"


def test_a_line_without_end_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    log = Logs(["a"])["a"]
    log.feed(b"x" * (logs.LONGEST_LINE + 1))
    assert len(capsys.readouterr().out) == len("a | \n") + logs.LONGEST_LINE + 1


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "FILE_BYTES", 10_000)
    every = Logs(["a"], tmp_path)
    for number in range(2_000):
        every["a"].feed(f"line {number}\n".encode())
    every.close()
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) <= 20_000
    assert (tmp_path / "a.log").read_text().endswith("line 1999\n")


def test_files_have_no_colours(tmp_path: Path) -> None:
    every = Logs(["a"], tmp_path)
    every["a"].feed(b"\x1b[31mred\x1b[0m\n")
    every.close()
    assert (tmp_path / "a.log").read_text() == "red\n"
