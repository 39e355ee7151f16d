"""Offloading, on a labelled fake: a CPU that says it has memory of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from pipeline.layout import Layout
from pipeline.memory.guests import Guests
from pipeline.parallel.ranks import Ranks
from pipeline.platforms.cpu import Cpu
from pipeline.request import INPUTS
from tests.fixtures.ranks import RankPool
from tests.pipeline import engines

Pools = Callable[[int], RankPool]

OFFLOADS = (
    "text_encoder_cpu_offload",
    "image_encoder_cpu_offload",
    "vae_cpu_offload",
    "dit_cpu_offload",
)
COMES = {"text_encoder_cpu_offload": "UMT5EncoderModel", "vae_cpu_offload": "AutoencoderKLWan"}
EVERYWHERE = torch.device("cpu")


class FakeDevice(Cpu):
    """A fake: the CPU in the part of a device with memory of its own, but without streams."""

    in_host_memory = False


def on_fake_device(ranks: Ranks) -> Ranks:
    return dataclasses.replace(ranks, platform=FakeDevice())


def at(module: nn.Module) -> list[int]:
    return [parameter.data_ptr() for parameter in module.parameters()]


class Pair(nn.Module):
    """A component whose parts are called one by one, like a VAE."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(2, 2), nn.Linear(2, 2)
        self.register_buffer("mean", torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        decoded: torch.Tensor = self.decoder(self.encoder(x)) + self.mean
        return decoded


def test_a_guest_comes_when_called_and_leaves_for_the_next() -> None:
    first, second, x = Pair(), Pair(), torch.ones(1, 2)
    expected = first(x), second(x)
    homes = at(first), at(second)
    guests = Guests(EVERYWHERE, pinned=False)
    guests.add(first)
    guests.add(second)
    assert torch.equal(first(x), expected[0])
    assert not set(at(first)) & set(homes[0])
    assert at(second) == homes[1]
    assert torch.equal(second(x), expected[1])
    assert at(first) == homes[0]
    assert not set(at(second)) & set(homes[1])


def test_calling_a_part_brings_the_whole_guest() -> None:
    guest = Pair()
    homes = at(guest)
    Guests(EVERYWHERE, pinned=False).add(guest)
    guest.decoder(torch.ones(1, 2))
    assert not set(at(guest)) & set(homes)


def test_what_a_guest_is_called_with_is_brought_to_the_device() -> None:
    """Diffusers brings inputs to where the weights are, which is a guest's home."""
    guest = Pair()
    Guests(EVERYWHERE, pinned=False).add(guest)
    elsewhere = torch.ones(1, 2, device="meta")  # the one place that nothing can be brought from
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        guest.decoder(elsewhere)


def test_every_guest_leaves_for_one_that_lives_on_the_device() -> None:
    guest, resident, x = Pair(), nn.Linear(2, 2), torch.ones(1, 2)
    homes = at(guest), at(resident)
    guests = Guests(EVERYWHERE, pinned=False)
    guests.add(guest)
    guests.make_room_for(resident)
    guest(x)
    resident(x)
    assert (at(guest), at(resident)) == homes


def test_pinned_weights_are_pinned_once_and_used(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[torch.Tensor] = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:  # a fake: without a device, torch cannot pin
        pinned.append(tensor.clone())
        return pinned[-1]

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    guest, x = Pair(), torch.ones(1, 2)
    expected = guest(x)
    Guests(EVERYWHERE, pinned=True).add(guest)
    assert at(guest) == [tensor.data_ptr() for tensor in pinned[:4]]
    assert torch.equal(guest(x), expected)
    assert len(pinned) == 5  # the buffer too


class Made(NamedTuple):
    frames: NDArray[np.uint8]
    notes: tuple[str, ...]
    streamed: int
    """Blocks of transformers that are hooked to come and go."""
    guests: set[str]
    """Classes of the components that came as a whole when they were called."""


class Asked(NamedTuple):
    options: dict[str, Any]
    params: dict[str, Any] = {}  # noqa: RUF012  # nobody writes to it
    fake: bool = True
    """On the CPU in the part of a device, not as it is."""


def make(ranks: Ranks, model: Path, folder: Path, asked: Asked) -> Made:
    """Frames, uint8 [F, H, W, 3]."""
    options, params, fake = asked
    streamed: set[nn.Module] = set()

    def note(module: nn.Module, *_: Any) -> None:
        hooks = getattr(module, "_diffusers_hook", None)
        if hooks is not None and hooks.get_hook("group_offloading") is not None:
            streamed.add(module)

    guests: set[str] = set()
    called = Guests._call

    def arrive(self: Guests, component: nn.Module | None) -> None:
        called(self, component)
        if component is not None:
            # Where it is called its weights lie elsewhere than at home.
            homes = self._homes[component]
            assert all(here.data_ptr() != home.data_ptr() for here, home in homes.items())
            guests.add(type(component).__name__)

    ranks = on_fake_device(ranks) if fake else ranks
    raw = folder / "raw.npy"
    watching = nn.modules.module.register_module_forward_pre_hook(note)
    try:
        engine = engines.load(ranks, model, Layout(ulysses=ranks.world_size), **options)
        request = engines.request_for(engine, **params)
        with mock.patch.object(Guests, "_call", arrive):
            engine.generate(request, folder / "output", engines.Recorder(), frames_file=raw)
    finally:
        watching.remove()
    pixels = np.load(raw) if ranks.rank == 0 else np.empty(0, np.uint8)
    return Made(pixels, engine.fallbacks, len(streamed), guests)


@pytest.mark.parametrize("world_size", [1, 2])
@pytest.mark.parametrize("switches", [OFFLOADS[:1], OFFLOADS[2:3], OFFLOADS[3:], OFFLOADS])
def test_offloading_changes_nothing_but_where_weights_lie(
    rank_pools: Pools, tiny_wan: Path, tmp_path: Path, switches: tuple[str, ...], world_size: int
) -> None:
    pool = rank_pools(world_size)
    plain = pool.one(make, tiny_wan, tmp_path, Asked({}))
    made = pool.one(make, tiny_wan, tmp_path, Asked(dict.fromkeys(switches, True)))
    assert np.array_equal(made.frames, plain.frames)
    assert (plain.streamed, plain.guests) == (0, set())
    assert made.guests >= {COMES[switch] for switch in switches if switch in COMES}
    assert made.streamed == (3 if "dit_cpu_offload" in switches else 0)  # 2 blocks, 1 for the rest


@pytest.mark.parametrize(
    ("model", "streamed"),
    # Blocks of each transformer, and one hook for what is no block: 2 + 1, twice that, 1 + 2 + 1.
    [("wan_i2v", 3), ("wan_a14b_i2v", 6), ("wan_ti2v", 3), ("flux2_base", 4)],
)
def test_every_family_computes_the_same_with_everything_offloaded(
    rank_pools: Pools, tiny_families: Path, tmp_path: Path, model: str, streamed: int
) -> None:
    (tmp_path / INPUTS).mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (80, 96, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / INPUTS / "a.png")
    params = {"images": ("a.png",), "width": 64, "height": 64, "num_inference_steps": 2}
    pool, directory = rank_pools(1), tiny_families / model
    plain = pool.one(make, directory, tmp_path, Asked({}, params))
    made = pool.one(make, directory, tmp_path, Asked(dict.fromkeys(OFFLOADS, True), params))
    assert np.array_equal(made.frames, plain.frames)
    assert (plain.streamed, made.streamed) == (0, streamed)


def test_the_image_encoder_comes_and_goes(
    rank_pools: Pools, tiny_families: Path, tmp_path: Path
) -> None:
    (tmp_path / INPUTS).mkdir()
    Image.new("RGB", (80, 96), "red").save(tmp_path / INPUTS / "a.png")
    params = {"images": ("a.png",), "num_inference_steps": 1}
    asked = Asked({"image_encoder_cpu_offload": True}, params)
    made = rank_pools(1).one(make, tiny_families / "wan_i2v", tmp_path, asked)
    assert made.guests == {"CLIPVisionModel"}


def test_what_has_nothing_to_do_is_said(rank_pools: Pools, tiny_wan: Path, tmp_path: Path) -> None:
    asked = {**dict.fromkeys(OFFLOADS, True), "pin_cpu_memory": True}
    made = rank_pools(1).one(make, tiny_wan, tmp_path, Asked(asked, fake=False))
    assert made.notes == (
        "text_encoder_cpu_offload has nothing to do: a cpu is in CPU memory",
        "image_encoder_cpu_offload has nothing to do: the model has no image_encoder",
        "vae_cpu_offload has nothing to do: a cpu is in CPU memory",
        "dit_cpu_offload has nothing to do: a cpu is in CPU memory",
        "pin_cpu_memory has nothing to do: no weights are offloaded",
    )
    assert made.streamed == 0
