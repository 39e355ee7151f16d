import json
import struct
from pathlib import Path

import pytest

from ops.doctor.proposal import Architecture, choose, propose
from pipeline.layout import Layout

GB = 10**9
WAN = Architecture("WanPipeline", heads=12, guided=True, parameters={}, tokens=32760)
LARGE = Architecture(
    "WanPipeline",
    heads=40,
    guided=True,
    parameters={"transformer": 14 * GB, "text_encoder": 6 * GB},
)


@pytest.mark.parametrize(
    ("num_gpus", "layout", "reason"),
    [
        (1, Layout(), "one device"),
        (2, Layout(cfg=2), "cfg 2: the two branches"),
        (3, Layout(ulysses=3), "cfg 1: 3 devices do not halve"),
        (4, Layout(cfg=2, ulysses=2), "ulysses 2: divides 12 heads"),
        (5, Layout(ring=5), "ring 5: what is left, 12 heads"),
        (8, Layout(cfg=2, ulysses=4), "ulysses 4"),
        (16, Layout(cfg=2, ulysses=4, ring=2), "ring 2"),
    ],
)
def test_branches_first_then_heads_then_a_ring(num_gpus: int, layout: Layout, reason: str) -> None:
    chosen, reasons = choose(WAN, num_gpus)
    assert chosen == layout
    assert reason in "; ".join(reasons)
    chosen.check_heads(WAN.heads)


def test_a_distilled_model_has_one_branch() -> None:
    model = Architecture("Flux2KleinPipeline", heads=24, guided=False, parameters={})
    layout, reasons = choose(model, 4)
    assert layout == Layout(ulysses=4)
    assert "distilled" in reasons[0]


@pytest.mark.parametrize(
    ("num_gpus", "memory_gb", "switches"),
    [
        (1, 80, ""),
        (1, 40, " --text-encoder-cpu-offload --vae-cpu-offload"),
        (2, 24, " --text-encoder-cpu-offload --vae-cpu-offload --use-fsdp-inference"),
        (
            1,
            24,
            " --text-encoder-cpu-offload --vae-cpu-offload --dit-cpu-offload --pin-cpu-memory",
        ),
    ],
)
def test_what_does_not_fit_is_given_room(num_gpus: int, memory_gb: int, switches: str) -> None:
    found = propose(LARGE, num_gpus, memory_gb * GB)
    assert found[-1].what.endswith(switches)
    assert ("offload" in found[-1].what) == bool(switches)


def test_too_few_tokens_are_said() -> None:
    small = Architecture("WanPipeline", heads=12, guided=False, parameters={}, tokens=2)
    assert [one.state for one in propose(small, 4, None)] == ["problem"]


def test_an_architecture_is_read_without_loading_it(tmp_path: Path) -> None:
    header = json.dumps(
        {
            "__metadata__": {"format": "pt"},
            "a": {"dtype": "F32", "shape": [3, 5], "data_offsets": [0, 60]},
            "b": {"dtype": "F32", "shape": [], "data_offsets": [60, 64]},
        }
    ).encode()
    (tmp_path / "transformer").mkdir()
    (tmp_path / "vae").mkdir()
    weights = tmp_path / "transformer" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(struct.pack("<Q", len(header)) + header + bytes(64))
    index = {"_class_name": "WanPipeline", "transformer": ["diffusers", "X"], "vae": ["d", "V"]}
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    config = {"num_attention_heads": 12, "patch_size": [1, 2, 2]}
    (tmp_path / "transformer" / "config.json").write_text(json.dumps(config))
    (tmp_path / "vae" / "config.json").write_text("{}")
    model = Architecture.read(tmp_path, 832, 480, 81)
    assert model == Architecture("WanPipeline", 12, True, {"transformer": 16}, 32760)


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no Diffusers directory with a transformer"):
        Architecture.read(tmp_path, 832, 480, 81)
