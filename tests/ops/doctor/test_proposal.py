import json
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest

from ops.doctor import hub
from ops.doctor.proposal import Architecture, choose, propose
from ops.doctor.size import Size
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


def test_an_unguided_model_has_one_branch() -> None:
    model = Architecture("Flux2KleinPipeline", heads=24, guided=False, parameters={})
    layout, reasons = choose(model, 4)
    assert layout == Layout(ulysses=4)
    assert "not guided" in reasons[0]


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
    (found,) = propose(small, 4, None)
    assert (found.state, found.what) == ("problem", "2 tokens are too few for 4 ranks")
    assert found.fix == "fewer --num-gpus, or a larger --width and --height"


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
    model = Architecture.read(tmp_path, Size(832, 480))
    assert model == Architecture("WanPipeline", 12, True, {"transformer": 16}, 32760)


def test_what_is_no_model_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is no Diffusers directory with a transformer"):
        Architecture.read(tmp_path, Size(832, 480, 81))


class FakeHub:
    """A fake of the hub's client: two files of weights, whose headers alone are asked for."""

    def list_repo_files(self, repo_id: str) -> list[str]:
        assert repo_id == "someone/a-model"
        return ["README.md", "loose.safetensors", "vae/v.safetensors", "transformer/1.safetensors"]

    def parse_safetensors_file_metadata(self, _: str, file: str) -> SimpleNamespace:
        counts = {
            "vae/v.safetensors": {"F32": 7},
            "transformer/1.safetensors": {"BF16": 5, "I8": 6},
        }
        return SimpleNamespace(parameter_count=counts[file])


def configs(directory: Path) -> None:
    index = {"_class_name": "WanPipeline", "transformer": ["diffusers", "X"], "vae": ["d", "V"]}
    (directory / "model_index.json").write_text(json.dumps(index))
    (directory / "transformer").mkdir()
    (directory / "transformer" / "config.json").write_text('{"num_attention_heads": 12}')


def test_a_hub_id_is_read_without_its_weights(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[list[str]] = []

    def snapshot(_: str, *, allow_patterns: list[str]) -> str:
        asked.append(allow_patterns)
        return str(tmp_path)

    configs(tmp_path)
    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    monkeypatch.setattr(hub, "HfApi", FakeHub)
    model = Architecture.find("someone/a-model", Size(832, 480, 81))
    assert model == Architecture("WanPipeline", 12, True, {"vae": 7, "transformer": 11})
    assert asked == [["model_index.json", "*/config.json"]]


def test_a_model_that_is_nowhere_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def snapshot(*_: object, **__: object) -> str:
        raise OSError("the hub does not answer\nand more")

    monkeypatch.setattr(hub, "snapshot_download", snapshot)
    with pytest.raises(ValueError, match=r"^a/b is neither .* hub: the hub does not answer$"):
        Architecture.find("a/b", Size(832, 480, 81))
    with pytest.raises(ValueError, match="is no Diffusers directory"):
        Architecture.find(str(tmp_path / "missing"), Size(832, 480, 81))
