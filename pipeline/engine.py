"""One rank's engine: a loaded model that turns requests into files, in step with the other ranks."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline import models
from pipeline.advice import advise
from pipeline.attention import Attention, choose
from pipeline.gang.protocol import ItemResult, SideFile
from pipeline.layout import Layout
from pipeline.media import image, video
from pipeline.media.frames import keep_frames
from pipeline.media.output import OutputError
from pipeline.media.previews import Previews
from pipeline.models import Model
from pipeline.options import EngineOptions
from pipeline.origin import origin_of
from pipeline.parallel.ranks import RankFailed, Ranks
from pipeline.profile import Profiler
from pipeline.request import INPUTS, Request
from pipeline.stages.control import Cancelled, Control, NotFinite, Steps
from pipeline.stages.live import Live
from pipeline.stages.snapshot import Resume
from pipeline.stages.stage import check_order
from pipeline.stages.state import State

log = logging.getLogger("pipeline.engine")

__all__ = ["Cancelled", "Control", "Engine", "NotFinite", "OutputError", "RankFailed"]


class Engine:
    """Runs the stages of one model, one request at a time; every rank calls it alike."""

    def __init__(
        self,
        model: Model,
        ranks: Ranks,
        attention: Attention,
        profiler: Profiler,
        *,
        options: EngineOptions,
        layout: Layout,
    ) -> None:
        check_order(model.stages)
        self.model = model
        self.card = model.card
        self.dtype = model.dtype
        self.fallbacks = model.fallbacks
        self.origin = origin_of(options, layout, ranks, attention, model.dtype)
        self._ranks = ranks
        self._attention = attention
        self._profiler = profiler
        self._options = options
        self._layout = layout

    @classmethod
    def load(cls, options: EngineOptions, layout: Layout, ranks: Ranks) -> Engine:
        """Load this rank's share of the model.

        Raises:
            ValueError: no such model, or a layout or a switch that it does not allow, in words.
        """
        attention = choose(options.attention_backend, ranks.platform, ranks.device, layout)
        model = models.load(options, layout, ranks)
        profiler = Profiler(options.profile, ranks)
        return cls(model, ranks, attention, profiler, options=options, layout=layout)

    def advice(self, request: Request) -> str:
        """What to change when there is too little memory for a request."""
        in_host_memory = self._ranks.platform.in_host_memory
        return advise(
            request, self.card, self._options, self._layout, in_host_memory=in_host_memory
        )

    @torch.no_grad()
    def generate(
        self,
        request: Request,
        file: Path,
        control: Control,
        *,
        frames_file: Path | None = None,
        previews: bool = False,
        resume: Resume | None = None,
        live: Live | None = None,
    ) -> ItemResult | None:
        """Make one video, or one image, and write it to `file`.

        Rank 0 decodes and writes while the others return or help it decode; what only rank 0 can
        suffer then (Cancelled or NotFinite while decoding, OutputError) leaves the ranks in step.

        Args:
            request: the same on every rank; its input images lie in `inputs` beside `file`.
            file: where rank 0 writes; it appears when it is whole.
            control: rank 0's is told of progress and asked whether to stop.
            frames_file: also write the frames, .npy, uint8 [F, H, W, 3].
            previews: also write a video's thumbnail and spritesheet beside `file`.
            resume: a snapshot of the same request to go on from; one that cannot be read or does not
                fit is reported to `control` and left.
            live: where rank 0 shows what comes, while it denoises.

        Returns:
            What was made, on rank 0; None on the others.

        Raises:
            RequestError: on every rank, a value that the model cannot serve, an image that cannot
                be read.
            Cancelled: at a step boundary.
            NotFinite: the model computed NaN or infinity.
            OutputError: the file could not be written.
            RankFailed: another rank failed, and this one is in step with it.
        """
        if self._layout.cfg > 1 and request.strongest_guidance <= 1 and self._ranks.rank == 0:
            log.warning(
                "guidance_scale %g leaves one branch a step: the two halves of the gang, which "
                "enable_cfg_parallel gives a branch each, compute the same",
                request.strongest_guidance,
            )
        with self._profiler.run(), self._attention.in_use(), self._ranks.ledger.in_use():
            state = State(request, inputs=file.parent / INPUTS, resume=resume)
            return self._make(state, file, control, frames_file, previews=previews, live=live)

    def _make(
        self,
        state: State,
        file: Path,
        control: Control,
        frames_file: Path | None,
        *,
        previews: bool,
        live: Live | None,
    ) -> ItemResult | None:
        request, steps = state.request, Steps(control, self._ranks, live)
        timings_s: dict[str, float] = {}
        for stage in self.model.stages:
            with self._timed(stage.name, timings_s):
                stage.run(state, steps)
        if self._ranks.rank != 0:
            return None
        # Frames are decoded as they are written: the last stage's time passes here.
        with self._timed(self.model.stages[-1].name, timings_s), closing(state.frames):
            content_type, beside = _write(state, file, frames_file, previews=previews)
        return ItemResult(
            file=file.name,
            content_type=content_type,
            size_bytes=file.stat().st_size,
            width=request.width,
            height=request.height,
            num_frames=request.num_frames,
            fps=request.fps,
            seed=request.seed,
            timings_s=timings_s,
            beside=beside,
        )

    @contextmanager
    def _timed(self, name: str, timings_s: dict[str, float]) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self._ranks.platform.synchronize(self._ranks.device)
        timings_s[name] = timings_s.get(name, 0.0) + time.perf_counter() - began


def _write(
    state: State, file: Path, frames_file: Path | None, *, previews: bool
) -> tuple[str, tuple[SideFile, ...]]:
    """Write the state's frames; returns the content type, and what lies beside the file."""
    request = state.request
    chunks: Iterator[NDArray[np.uint8]] = (chunk.numpy() for chunk in state.frames)
    if frames_file is not None:
        shape = (request.num_frames, request.height, request.width, 3)
        chunks = keep_frames(frames_file, chunks, shape)
    if request.makes_image:
        (chunk,) = chunks
        return image.write_image(file, chunk[0], request.output_format), ()
    small = Previews(request.num_frames) if previews else None
    if small is not None:
        chunks = small.watch(chunks)
    video.write_video(file, chunks, width=request.width, height=request.height, fps=request.fps)
    return video.CONTENT_TYPE, () if small is None else small.write(file)
