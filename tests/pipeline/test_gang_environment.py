"""What a user sets reaches every rank, and what it asks for happens; on real ranks."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from pipeline.gang.gang import Gang, GangError
from pipeline.gang.placement import gang_envs, probe
from pipeline.gang.protocol import Done, Run, RunItem
from pipeline.layout import Layout
from pipeline.options import EngineOptions
from pipeline.request import Params, resolve

START_S = 120.0

USER = {
    "CCL_LOG_LEVEL": "info",
    "CCL_ATL_TRANSPORT": "ofi",
    "CCL_FUSION_THRESHOLD": "1",
    "CCL_FUSION_COUNT_THRESHOLD": "256",
    "CCL_PRIORITY": "direct",
    "IPEX_VERBOSE": "1",
    "TORCH_DISTRIBUTED_DEBUG": "DETAIL",
    "TORCH_DISTRIBUTED_BACKEND": "gloo",
    "TORCH_DISTRIBUTED_TIMEOUT": "90",
}
SECRETS = {
    "RUSHES_REDIS_URL",
    "RUSHES_S3_ACCESS_KEY_ID",
    "RUSHES_S3_SECRET_ACCESS_KEY",
    "RUSHES_WEBHOOK_SECRET",
    "RUSHES_FLOWER_BASIC_AUTH",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "FLOWER_BASIC_AUTH",
    "OTEL_EXPORTER_OTLP_HEADERS",
}
"""A rank asks for nothing that they open."""
CPU = {"device": "cpu", "count": 2, "visible_variable": ""}


def environment(pid: int) -> dict[str, str]:
    """What a process was started with."""
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if entry)


def test_variables_reach_every_rank_and_ranks_meet_where_told(
    tiny_wan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    meeting = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
    for name in SECRETS:
        monkeypatch.setenv(name, "hush")
    monkeypatch.setenv("RUSHES_LOG_LEVEL", "warning")
    options = EngineOptions(model_path=str(tiny_wan), device="cpu")
    gang = Gang(options, num_gpus=2, directory=tmp_path / "gang", env=USER | meeting)
    try:
        ready = gang.start(START_S)
        for pid in gang.pids:
            given = environment(pid)
            assert (USER | meeting).items() <= given.items()
            assert not SECRETS & given.keys()
            assert "hush" not in given.values()
            assert given["RUSHES_LOG_LEVEL"] == "warning"
            assert given["TRANSFORMERS_VERBOSITY"] == given["DIFFUSERS_VERBOSITY"] == "error"
        assert list((tmp_path / "gang").glob("rendezvous-*/store")) == []
        # torch's own checks of every exchange (DETAIL) are on in this run.
        params = Params.model_validate({"prompt": "a fox", "seed": 1, "num_inference_steps": 1})
        item = RunItem(request=resolve(params, ready.card), file="video.mp4")
        done = gang.run(Run(run_id="r", directory=str(tmp_path), items=(item,)), lambda _: None)
        assert isinstance(done, Done)
    finally:
        gang.stop(10)
    assert ready.backend == "gloo"
    assert ready.fallbacks == ()  # on a CPU, gloo is no fallback


def test_a_backend_that_is_not_for_the_device_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_DISTRIBUTED_BACKEND", "xccl")
    with pytest.raises(
        GangError, match=r"^TORCH_DISTRIBUTED_BACKEND=xccl is not for cpu: leave it"
    ):
        probe(EngineOptions(model_path="m", device="cpu"))


def test_a_timeout_that_is_none_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TORCH_DISTRIBUTED_TIMEOUT", "abc")
    with pytest.raises(GangError, match=r"^TORCH_DISTRIBUTED_TIMEOUT='abc' is no whole number"):
        probe(EngineOptions(model_path="m", device="cpu"))


@pytest.mark.parametrize("name", ["MASTER_ADDR", "MASTER_PORT"])
def test_one_meeting_place_for_several_gangs_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"^{name}=29500 names one meeting place for dp_size 2"):
        gang_envs(Layout(dp=2), CPU, {name: "29500"})
    assert len(gang_envs(Layout(ulysses=2), CPU, {name: "29500"})) == 1
