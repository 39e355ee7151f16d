"""The rows of `rushes bench gpu`, without running any: each must be something that can be asked for."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from ops.bench import gpu
from ops.bench.gpu import ROWS, Row, Seen
from ops.options import Refused
from pipeline.options import EngineOptions
from pipeline.outline import Outline
from pipeline.request import Params


@pytest.mark.parametrize(
    ("row", "gpus"), [(row, gpus) for gpus, rows in ROWS.items() for row in rows], ids=str
)
def test_every_row_can_be_asked_for(row: Row, gpus: int) -> None:
    options = EngineOptions.model_validate({"model_path": "m", **row.options})
    layout = options.layout(num_gpus=gpus, model=Outline(heads=12))
    assert layout.gang_size == gpus
    Params.model_validate({"prompt": "p", **row.request})


def seen(pixel: int) -> Seen:
    return Seen(1.25, 0.5, 3 * 2**30, np.full((1, 2, 2, 3), pixel, np.uint8))


def test_a_row_stands_beside_the_first_and_says_what_it_cannot_be(
    monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    rows = (Row("plain"), Row("other", {"vae_tiling": "on"}), Row("none"), Row("same"))
    made: Iterator[Seen | ValueError] = iter(
        [seen(7), seen(9), ValueError("fa3 | is for Hopper"), seen(7)]
    )

    def by_gang(*_: object) -> tuple[Seen, None]:
        if isinstance(one := next(made), Exception):
            raise one
        return one, None

    monkeypatch.setattr(gpu, "_by_gang", by_gang)
    options = EngineOptions(model_path="m")
    lines = list(gpu._lines(options, rows, 1, tmp_path, lambda *_, **__: None))  # type: ignore[arg-type]
    assert lines == [
        "| plain | 1.250 | 0.50 | 3.00 GiB | 0 |",
        "| other | 1.250 | 0.50 | 3.00 GiB | 2, 2.0000 |",
        "| none | - | - | - | fa3 / is for Hopper |",
        "| same | 1.250 | 0.50 | 3.00 GiB | 0 |",
    ]


@pytest.mark.parametrize("asked", [{"num_gpus": 3}, {"num_gpus": 2, "sp_degree": 2}], ids=str)
def test_what_no_row_is_for_is_refused_before_a_model_is_made(asked: dict[str, int]) -> None:
    options = EngineOptions.model_validate({"model_path": "m", **asked})
    with pytest.raises(Refused, match=r"rows for 1, 2, 4|each row has its own"):
        gpu.run_gpu_bench(options, full=False, steps=2, only=None)
