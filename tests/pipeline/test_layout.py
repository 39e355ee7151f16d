import re
from typing import Any

import pytest

from pipeline.layout import Layout


@pytest.mark.parametrize(
    ("num_gpus", "asked", "expected"),
    [
        (1, {}, Layout()),
        (2, {}, Layout(ulysses=2)),
        (2, {"enable_cfg_parallel": True}, Layout(cfg=2)),
        (4, {"enable_cfg_parallel": True}, Layout(cfg=2, ulysses=2)),
        (8, {"dp_size": 2, "sp_degree": 4, "ulysses_degree": 4}, Layout(dp=2, ulysses=4)),
        (4, {"ring_degree": 2}, Layout(ring=2, ulysses=2)),
        (4, {"sp_degree": 4, "ring_degree": 2, "ulysses_degree": 2}, Layout(ring=2, ulysses=2)),
        (8, {"tp_size": 2}, Layout(tp=2, ulysses=2, ring=2)),  # 6 heads a rank: 4 does not divide
        (8, {}, Layout(ulysses=4, ring=2)),  # 12 heads: 4 is the largest divisor of 8 that fits
        (4, {"dp_size": 4}, Layout(dp=4)),
    ],
)
def test_omitted_degrees_are_filled(num_gpus: int, asked: dict[str, Any], expected: Layout) -> None:
    layout = Layout.plan(num_gpus, heads=12, **asked)
    assert layout == expected
    assert layout.num_gpus == num_gpus


@pytest.mark.parametrize(
    ("num_gpus", "asked", "words"),
    [
        (0, {}, "at least 1, got 0"),
        (3, {"enable_cfg_parallel": True}, "even number of devices, got num_gpus 3"),
        (3, {"dp_size": 2}, "num_gpus 3 is not divisible by dp 2 x cfg 1 x tp 1 = 2"),
        (8, {"dp_size": 2, "sp_degree": 2}, "sp_degree 2 does not fit: num_gpus 8"),
        (4, {"ulysses_degree": 3}, "ulysses 3 does not divide the sequence parallel degree 4; "),
        (2, {"ulysses_degree": 4}, "ulysses 4 does not divide the sequence parallel degree 2; "),
        (
            2,
            {"ring_degree": 4},
            "ring 4 does not divide the sequence parallel degree 2; degrees that",
        ),
        (
            8,
            {"ulysses_degree": 2, "ring_degree": 2},
            "ulysses 2 x ring 2 must be the sequence parallel degree 8",
        ),
        (8, {"ulysses_degree": 8}, "degrees that do: 1, 2, 3, 4, 6, 12"),
        (5, {"tp_size": 5}, "12 heads do not divide by tp 5"),
    ],
)
def test_degrees_that_do_not_fit_are_refused_with_the_numbers(
    num_gpus: int, asked: dict[str, Any], words: str
) -> None:
    with pytest.raises(ValueError, match=re.escape(words)):
        Layout.plan(num_gpus, heads=12, **asked)


def test_it_says_itself_in_one_line() -> None:
    assert str(Layout(cfg=2, ulysses=2)) == "4 = dp 1 x cfg 2 x ring 1 x ulysses 2 x tp 1"
    with pytest.raises(ValueError, match="1 or 2"):
        Layout(cfg=3)
