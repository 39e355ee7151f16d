"""A scheduler that goes on from a snapshot takes the very steps that it would have taken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch

from pipeline.stages import snapshot
from pipeline.stages.state import State
from tests.jobs import making

STEPS = 8
SCHEDULERS = [
    ("UniPCMultistepScheduler", {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}),
    ("FlowMatchEulerDiscreteScheduler", {}),
    ("FlowMatchHeunDiscreteScheduler", {}),
]


def prepared(kind: str, config: dict[str, Any]) -> tuple[State, Any]:
    """As the stages before denoising leave it."""
    state = State(making.request(), inputs=Path("nowhere"))
    state.generator = torch.Generator().manual_seed(1)
    state.latent = torch.randn(1, 4, 3, 8, 8, generator=state.generator)
    scheduler = getattr(diffusers, kind)(**config)
    scheduler.set_timesteps(STEPS)
    scheduler.set_begin_index(0)
    state.timesteps = scheduler.timesteps
    return state, scheduler


def denoise(state: State, scheduler: Any, first: int, last: int) -> None:
    for step in range(first, last):
        noise = torch.sin(state.latent * (step + 1))
        state.latent = scheduler.step(
            noise, state.timesteps[step], state.latent, return_dict=False
        )[0]


@pytest.mark.parametrize(("kind", "config"), SCHEDULERS, ids=[kind for kind, _ in SCHEDULERS])
def test_the_steps_after_it_are_the_same(tmp_path: Path, kind: str, config: dict[str, Any]) -> None:
    for at in (1, 2, 5):
        go_on_from(at, tmp_path, kind, config)


def go_on_from(at: int, tmp_path: Path, kind: str, config: dict[str, Any]) -> None:
    whole, scheduler = prepared(kind, config)
    denoise(whole, scheduler, 0, at)
    taken = snapshot.take(whole, scheduler, at)
    taken.save(tmp_path / "s.safetensors")
    denoise(whole, scheduler, at, STEPS)

    resumed, fresh = prepared(kind, config)
    resumed.latent = torch.zeros_like(resumed.latent)
    resume = snapshot.Resume(tmp_path / "s.safetensors", taken.step, taken.scheduler)
    snapshot.load(resume, resumed, fresh)()
    assert fresh.step_index == at
    denoise(resumed, fresh, at, STEPS)

    assert torch.equal(resumed.latent, whole.latent)
    drawn = [torch.randn(3, generator=state.generator) for state in (whole, resumed)]
    assert torch.equal(*drawn)


def test_what_does_not_fit_or_is_damaged_changes_nothing(tmp_path: Path) -> None:
    kind, config = SCHEDULERS[0]
    state, scheduler = prepared(kind, config)
    denoise(state, scheduler, 0, 3)
    taken = snapshot.take(state, scheduler, 3)
    file = tmp_path / "s.safetensors"
    taken.save(file)
    good = file.read_bytes()
    other, fresh = prepared(kind, config)
    before = other.latent

    file.write_bytes(good[:-100])
    with pytest.raises(ValueError, match="damaged"):
        snapshot.load(snapshot.Resume(file, 3, taken.scheduler), other, fresh)
    file.write_bytes(good)
    with pytest.raises(ValueError, match="after step 9 of 8"):
        snapshot.load(snapshot.Resume(file, 9, taken.scheduler), other, fresh)
    other.latent = other.latent[:, :2]
    with pytest.raises(ValueError, match="its latent is"):
        snapshot.load(snapshot.Resume(file, 3, taken.scheduler), other, fresh)
    with pytest.raises(ValueError, match="cannot be read: FileNotFoundError"):
        snapshot.load(snapshot.Resume(tmp_path / "none.safetensors", 3, {}), other, fresh)

    assert torch.equal(other.latent, before[:, :2])
    assert fresh.step_index is None


def test_a_scheduler_that_cannot_be_kept_is_named_with_its_attribute() -> None:
    state, scheduler = prepared(*SCHEDULERS[0])
    scheduler.solver_p = object()

    with pytest.raises(TypeError, match=r"scheduler\.solver_p is a object"):
        snapshot.take(state, scheduler, 0)
