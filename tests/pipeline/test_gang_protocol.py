"""The wire format is pinned: a message that changes its JSON changes a golden file, seen in review."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.gang.protocol import (
    Cancel,
    Checkpoint,
    DeviceInfo,
    Done,
    Failed,
    FromRank,
    Init,
    ItemResult,
    Message,
    Progress,
    ProtocolError,
    Ready,
    Resumed,
    Run,
    RunItem,
    SideFile,
    Stop,
    ToRank,
    decode_from_rank,
    decode_to_rank,
    encode,
)
from pipeline.options import EngineOptions
from tests.fixtures.asked import card, request

GOLDEN = Path(__file__).parent / "golden"

CARD = card(name="demo")
REQUEST = request(model="demo", prompt="ein roter Kreis, größer")
TO_RANK: list[ToRank] = [
    Init(options=EngineOptions(model_path="/models/demo", num_gpus=2, device="cpu"), num_gpus=2),
    Run(
        run_id="video_1/1-aa",
        directory="/tmp/attempt",
        items=(RunItem(request=REQUEST, file="video.mp4", return_frames=True),),
        checkpoint_steps=5,
        checkpoint_s=30.0,
        resume="resume",
    ),
    Cancel(run_id="video_1/1-aa", checkpoint=True),
    Stop(),
]
FROM_RANK: list[FromRank] = [
    Ready(
        card=CARD,
        platform="cpu",
        backend="gloo",
        dtype="float32",
        degrees={"cfg": 1, "ring": 1, "ulysses": 2, "tp": 1},
        devices=(DeviceInfo(rank=0, pid=11, device="cpu", name="x86_64", memory_bytes=2**34),),
        load_s=0.5,
        fallbacks=("attention: sdpa",),
    ),
    Progress(run_id="video_1/1-aa", item=0, stage="denoising", step=3, steps=20),
    Checkpoint(
        run_id="video_1/1-aa",
        name="checkpoint-2",
        item=1,
        step=10,
        steps=20,
        files=("checkpoint-2.safetensors", "checkpoint-2.json", "video-1.mp4"),
    ),
    Resumed(run_id="video_1/1-aa", item=1, step=0, steps=20, refused="dtype: float32 then"),
    Done(
        run_id="video_1/1-aa",
        results=(
            ItemResult(
                file="video.mp4",
                content_type="video/mp4",
                size_bytes=1234,
                width=128,
                height=128,
                num_frames=17,
                fps=8,
                seed=7,
                timings_s={"denoising": 1.25},
                beside=(
                    SideFile(
                        kind="thumbnail",
                        file="video-thumbnail.webp",
                        content_type="image/webp",
                        size_bytes=99,
                        width=128,
                        height=128,
                    ),
                ),
            ),
        ),
        started_at=1700000000.0,
        ended_at=1700000002.5,
        peak_memory_bytes=2**30,
    ),
    Failed(run_id="video_1/1-aa", code="out_of_memory", message="rank 0: no", fatal=True),
]


@pytest.mark.parametrize("message", [*TO_RANK, *FROM_RANK], ids=lambda message: message.type)
def test_a_message_is_the_json_of_its_golden_file(message: Message) -> None:
    name = message.model_dump()["type"]
    golden = json.loads((GOLDEN / f"{name}.json").read_text())

    assert json.loads(encode(message)) == golden


def test_a_gang_that_can_never_start_says_so_without_a_run() -> None:
    refused = Failed(run_id="", code="refused", message="4 heads", fatal=True)
    golden = json.loads((GOLDEN / "refused.json").read_text())

    assert json.loads(encode(refused)) == golden
    assert decode_from_rank(encode(refused)) == refused


@pytest.mark.parametrize("message", TO_RANK, ids=lambda message: message.type)
def test_a_rank_reads_what_the_parent_wrote(message: ToRank) -> None:
    line = encode(message)

    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_to_rank(line) == message


@pytest.mark.parametrize("message", FROM_RANK, ids=lambda message: message.type)
def test_the_parent_reads_what_a_rank_wrote(message: FromRank) -> None:
    assert decode_from_rank(encode(message)) == message


def test_every_golden_file_belongs_to_a_message() -> None:
    names = {"refused", *(message.type for message in [*TO_RANK, *FROM_RANK])}

    assert {path.stem for path in GOLDEN.glob("*.json")} == names


@pytest.mark.parametrize(
    "line",
    [b"", b"{}", b"not json", b'{"type":"fetch"}', b'{"type":"stop","more":1}', b'{"type":"done"}'],
)
def test_what_the_protocol_does_not_know_is_refused(line: bytes) -> None:
    with pytest.raises(ProtocolError, match="cannot read"):
        decode_to_rank(line)
    with pytest.raises(ProtocolError, match="cannot read"):
        decode_from_rank(line)


def test_neither_end_takes_the_others_words() -> None:
    with pytest.raises(ProtocolError):
        decode_to_rank(encode(FROM_RANK[1]))
    with pytest.raises(ProtocolError):
        decode_from_rank(encode(TO_RANK[2]))
