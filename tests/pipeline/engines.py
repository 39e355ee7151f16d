"""What the engine's tests run inside ranks. Everything here is called by name on a rank."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.layout import Layout
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks
from pipeline.request import Params, Request, resolve

if TYPE_CHECKING:
    from pipeline.stages.snapshot import Snapshot

PROMPT = "a red circle moving right"
NOWHERE = Path("nowhere")


@dataclass
class Recorder:
    """A control that keeps what it hears and asks to stop after a step of a stage."""

    stop_after: tuple[str, int] | None = None
    heard: list[tuple[str, int, int]] = field(default_factory=list)

    def progress(self, stage: str, step: int, steps: int) -> None:
        self.heard.append((stage, step, steps))

    def stop_requested(self) -> bool:
        return self.stop_after in [(stage, step) for stage, step, _ in self.heard]

    def boundary(self, step: int, take: Callable[[], Snapshot]) -> bool:
        return False

    def resumed(self, step: int, steps: int, refused: str) -> None:
        pass


def load(ranks: Ranks, model: Path, layout: Layout, **options: Any) -> Any:
    from pipeline.engine import Engine

    return Engine.load(EngineOptions(model_path=str(model), **options), layout, ranks)


def request_for(engine: Any, *, images: tuple[str, ...] = (), **params: Any) -> Request:
    asked = Params.model_validate({"prompt": PROMPT, "seed": 7, **params})
    return resolve(asked, engine.card, images)


def frames(
    ranks: Ranks, model: Path, layout: Layout, folder: Path, params: dict[str, Any]
) -> NDArray[np.uint8]:
    """Frames before encoding, uint8 [F, H, W, 3], as rank 0 decoded them."""
    engine = load(ranks, model, layout)
    raw = folder / "raw.npy"
    engine.generate(request_for(engine, **params), folder / "output", Recorder(), frames_file=raw)
    return np.load(raw) if ranks.rank == 0 else np.empty(0, np.uint8)


def latent(
    ranks: Ranks,
    model: Path,
    layout: Layout,
    params: dict[str, Any],
    inputs: Path = NOWHERE,
) -> NDArray[np.float32]:
    """The clean latent of this rank, [1, C, F, H, W]; input images lie in `inputs`."""
    return latent_of(ranks, load(ranks, model, layout), params, inputs)


def latent_with(
    ranks: Ranks, model: Path, layout: Layout, options: dict[str, Any]
) -> NDArray[np.float32]:
    """The same of a model that is loaded with `options`."""
    return latent_of(ranks, load(ranks, model, layout, **options), {}, NOWHERE)


def latent_of(
    ranks: Ranks, engine: Any, params: dict[str, Any], inputs: Path
) -> NDArray[np.float32]:
    """The same of an engine."""
    import torch

    from pipeline.stages.control import Steps
    from pipeline.stages.state import State

    state = State(request_for(engine, **params), inputs=inputs)
    with torch.no_grad():
        for stage in engine.model.stages[:-1]:
            stage.run(state, Steps(Recorder(), ranks))
    array: NDArray[np.float32] = state.latent.cpu().numpy()
    return array


def oracle(ranks: Ranks, model: Path, params: dict[str, Any]) -> NDArray[np.uint8]:
    """The frames of diffusers' own pipeline for the same request, uint8 [F, H, W, 3]."""
    from diffusers import WanPipeline

    request = request_for(load(ranks, model, Layout()), **params)
    pipe = WanPipeline.from_pretrained(model)
    pipe.set_progress_bar_config(disable=True)
    return frames_of(pipe, request)


def frames_of(pipe: Any, request: Request, **more: Any) -> NDArray[np.uint8]:
    """The frames that a Wan pipeline of diffusers makes, uint8 [F, H, W, 3]; `more` goes to its call."""
    import torch

    output = pipe(
        prompt=request.prompt,
        negative_prompt=request.negative_prompt,
        height=request.height,
        width=request.width,
        num_frames=request.num_frames,
        num_inference_steps=request.num_inference_steps,
        guidance_scale=request.guidance_scale,
        generator=torch.Generator().manual_seed(request.seed),
        output_type="np",
        **more,
    )
    pixels: NDArray[np.uint8] = (output.frames[0] * 255).round().astype(np.uint8)
    return pixels


@contextmanager
def little_room(size_bytes: int) -> Iterator[None]:
    """Let the system refuse to make any file longer than `size_bytes`, as a full disk would."""
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
