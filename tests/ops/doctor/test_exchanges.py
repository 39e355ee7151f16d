"""The clock and the values, against fakes that need no torch: each plays one rank."""

import sys
from pathlib import Path

from ops.doctor.exchanges import exchanges
from ops.doctor.finding import Finding

HEAD = """
import json, os, sys, time
rank = int(next(a for a in sys.argv if a.startswith("--rank=")).partition("=")[2])
def say(exchange, problem=None):
    event = {"rank": rank, "exchange": exchange}
    if problem is not None:
        event["problem"] = problem
    print(json.dumps(event), flush=True)
def well(exchange):
    say(exchange)
    say(exchange, "")
print("a library that talks", flush=True)
well("join")
"""


def run(folder: Path, rest: str, timeout_s: float = 20.0) -> list[Finding]:
    script = folder / "rank.py"
    script.write_text(HEAD + rest)
    return exchanges(2, "cpu", timeout_s, (sys.executable, str(script)))


def test_exchanges_that_work_are_said_once_each(tmp_path: Path) -> None:
    found = run(tmp_path, "well('all_reduce')\nwell('broadcast')")
    assert [(one.state, one.what) for one in found] == [
        ("ok", "join between 2 ranks"),
        ("ok", "all_reduce between 2 ranks"),
        ("ok", "broadcast between 2 ranks"),
    ]


def test_wrong_values_on_one_rank_are_a_problem(tmp_path: Path) -> None:
    found = run(tmp_path, "say('all_to_all', 'wrong values arrived' if rank else '')")
    assert found[-1].state == "problem"
    assert found[-1].what == "all_to_all: rank 1: wrong values arrived"
    assert found[-1].fix


def test_an_exchange_that_hangs_is_named_with_what_mends_it(tmp_path: Path) -> None:
    found = run(tmp_path, "well('all_reduce')\nsay('send/recv')\ntime.sleep(600)", timeout_s=0.5)
    assert (found[-1].state, found[-1].what) == ("problem", "send/recv: no answer within 0.5 s")
    assert "CCL_SEND=direct" in found[-1].fix


def test_a_rank_that_dies_is_heard_to_its_last_word(tmp_path: Path) -> None:
    rest = "say('all_reduce')\nsys.exit('oneCCL not found' if rank else 0)"
    found = run(tmp_path, rest)
    assert (found[-1].state, found[-1].what) == ("problem", "all_reduce: oneCCL not found")
    assert "TORCH=xpu" in found[-1].fix
