"""Which gang gets which devices."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from pipeline.gang.gang import GangError
from pipeline.gang.placement import gang_envs, plan, probe, undecided
from pipeline.layout import Layout
from pipeline.options import EngineOptions

CUDA = {"device": "cuda", "count": 4, "visible_variable": "CUDA_VISIBLE_DEVICES"}
XPU = {"device": "xpu", "count": 4, "visible_variable": "ZE_AFFINITY_MASK"}
CPU = {"device": "cpu", "count": 2, "visible_variable": ""}
QUIET = {"OMP_NUM_THREADS": "1"}


@pytest.mark.parametrize(
    ("found", "environ", "parts"),
    [
        (CUDA, {}, ["0,1", "2,3"]),
        (XPU, {}, ["0,1", "2,3"]),
        (CUDA, {"CUDA_VISIBLE_DEVICES": "7,5,3,1"}, ["7,5", "3,1"]),
        (XPU, {"ZE_AFFINITY_MASK": "0.0,0.1,1.0,1.1"}, ["0.0,0.1", "1.0,1.1"]),
        (CUDA, {"CUDA_VISIBLE_DEVICES": "4,5,6,7,8"}, ["4,5", "6,7"]),
    ],
)
def test_gangs_get_disjoint_ids_of_the_inherited_mask(
    found: dict[str, Any], environ: dict[str, str], parts: list[str]
) -> None:
    envs = gang_envs(Layout(ulysses=2, dp=2), found, environ | QUIET)

    assert envs == [{found["visible_variable"]: part} for part in parts]


def test_more_devices_than_there_are_is_refused_with_the_numbers() -> None:
    with pytest.raises(ValueError, match="num_gpus 4, but 2 cuda devices in CUDA_VISIBLE_DEVICES="):
        gang_envs(Layout(dp=4), CUDA, {"CUDA_VISIBLE_DEVICES": "1,2"})
    with pytest.raises(ValueError, match=r"num_gpus 8, but 4 xpu devices$"):
        gang_envs(Layout(dp=8), XPU, {})


def test_gangs_share_the_cores_unless_told_how() -> None:
    share = str(max(1, len(os.sched_getaffinity(0)) // 2))

    assert gang_envs(Layout(dp=2), CPU, {}) == [{"OMP_NUM_THREADS": share}] * 2
    assert gang_envs(Layout(dp=2), CPU, QUIET) == [{}, {}]
    assert gang_envs(Layout(ulysses=2), CPU, {}) == [{}]


@pytest.mark.parametrize(("found", "devices"), [(CUDA, 1), (XPU, 1), (CPU, 2)])
def test_devices_omitted_are_one_and_on_cpu_two(found: dict[str, Any], devices: int) -> None:
    assert plan(EngineOptions(model_path="/m"), found).num_gpus == devices
    assert plan(EngineOptions(model_path="/m", num_gpus=4), found).num_gpus == 4
    with pytest.raises(ValueError, match="num_gpus 3 is not divisible by dp 2"):
        plan(EngineOptions(model_path="/m", num_gpus=3, dp_size=2), found)


def test_the_plan_knows_the_models_heads_where_it_lies_on_disk(tmp_path: Path) -> None:
    (tmp_path / "transformer").mkdir()
    (tmp_path / "transformer/config.json").write_text(json.dumps({"num_attention_heads": 4}))
    options = EngineOptions(model_path=str(tmp_path))

    def planned(**degrees: int) -> Layout:
        return plan(options.model_copy(update=degrees), CPU)

    assert planned(num_gpus=3) == Layout(ring=3)
    assert planned(num_gpus=6) == Layout(ring=3, ulysses=2)
    assert planned(num_gpus=4, tp_size=2) == Layout(ulysses=2, tp=2)
    with pytest.raises(ValueError, match="4 heads do not divide by ulysses 3"):
        planned(num_gpus=3, ulysses_degree=3)
    assert not undecided(options, planned(num_gpus=3))
    hub = EngineOptions(model_path="who/what")
    assert undecided(hub, Layout(ulysses=3))
    assert not undecided(hub, Layout())
    assert not undecided(hub.model_copy(update={"ring_degree": 3}), Layout(ring=3))


def test_the_probe_finds_the_cpu_and_names_what_is_not_there() -> None:
    found = probe(EngineOptions(model_path="/m", device="cpu"))

    assert (found["device"], found["backend"]) == ("cpu", "gloo")
    assert found["count"] >= 1
    with pytest.raises(GangError, match="no xpu device"):
        probe(EngineOptions(model_path="/m", device="xpu"))
