"""The Python way in: `DiffGenerator`. Torch-free: the ranks that it starts load the model.

`from_pretrained` plans the layout, starts dp gangs and waits until they are warm; `generate` turns
each output into one run, spreads the runs over the gangs, and moves each finished file into place.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict
from uuid import uuid4

from pipeline.gang.dispatcher import Dispatcher
from pipeline.gang.gang import Gang, GangDied, GangError
from pipeline.gang.placement import gang_envs, plan, probe
from pipeline.gang.protocol import Done, Failed, News, Progress, Run, RunItem
from pipeline.inputs import names_of
from pipeline.layout import Layout
from pipeline.limits import ModelCard, RequestError
from pipeline.media.given import ImageInput, as_list, write_inputs
from pipeline.options import Device, DType, EngineOptions
from pipeline.outputs import in_format_of, make_folders, plan_paths
from pipeline.request import INPUTS, Fidelity, ImageFormat, Params, Request, parse, resolve


class Output(TypedDict):
    """One finished video or image."""

    prompt: str
    output_path: str | None
    """None without `save_output`."""
    frames: Any
    """uint8 [F, H, W, 3] with `return_frames`, else None."""
    seed: int
    timings: dict[str, float]
    """Seconds by stage, and `total`."""
    width: int
    height: int
    num_frames: int
    fps: int
    peak_memory_bytes: int
    """Of the rank that held the most."""


class GenerationError(Exception):
    """Some outputs failed; `outputs` has the others, None in the place of each that failed."""

    def __init__(self, message: str, outputs: list[Output | None]) -> None:
        super().__init__(message)
        self.outputs = outputs


class DiffGenerator:
    """A model on this machine's devices, warm until `close`; a context manager."""

    def __init__(self, options: EngineOptions, *, start_s: float = 900.0) -> None:
        """Start the gangs and wait until every one is ready.

        Args:
            options: what to load and how to share it.
            start_s: how long a gang may take to be ready, seconds.

        Raises:
            ValueError: degrees that do not fit the devices, with the numbers.
            GangError: the device is not there, or a gang could not start.
        """
        found = probe(options)
        self.layout: Layout = plan(options, found)
        self._home = Path(tempfile.mkdtemp(prefix="rushes-"))
        gangs = [
            Gang(options, num_gpus=self.layout.gang_size, directory=self._home, env=env)
            for env in gang_envs(self.layout, found, os.environ)
        ]
        self._dispatcher = Dispatcher(gangs, start_s=start_s)
        self._close = weakref.finalize(self, _close, self._dispatcher, self._home)
        self.card: ModelCard = self._dispatcher.start()[0].card

    @classmethod
    def from_pretrained(
        cls,
        model_path: str | Path,
        *,
        served_model_name: str | None = None,
        workload_type: str | None = None,
        num_gpus: int | None = None,
        dp_size: int | None = None,
        sp_degree: int | None = None,
        ulysses_degree: int | None = None,
        ring_degree: int | None = None,
        tp_size: int | None = None,
        enable_cfg_parallel: bool = False,
        device: Device | None = None,
        dtype: DType | None = None,
        attention_backend: str | None = None,
        text_encoder_cpu_offload: bool = False,
        image_encoder_cpu_offload: bool = False,
        vae_cpu_offload: bool = False,
        dit_cpu_offload: bool = False,
        pin_cpu_memory: bool = False,
        use_fsdp_inference: bool = False,
        hsdp_shard_dim: int | None = None,
        vae_tiling: Literal["on", "off"] | None = None,
        enable_torch_compile: bool = False,
        step_cache: bool = False,
        use_ipex: bool = False,
        profile: str | Path | None = None,
    ) -> Self:
        """Load a model: a Diffusers directory or hub id. The options are those of `rushes serve`.

        Raises:
            ValueError: degrees that do not fit the devices, with the numbers.
            GangError: the device is not there, or a gang could not start.
        """
        return cls(
            EngineOptions(
                model_path=str(model_path),
                served_model_name=served_model_name,
                workload_type=workload_type,
                num_gpus=num_gpus,
                dp_size=dp_size,
                sp_degree=sp_degree,
                ulysses_degree=ulysses_degree,
                ring_degree=ring_degree,
                tp_size=tp_size,
                enable_cfg_parallel=enable_cfg_parallel,
                device=device,
                dtype=dtype,
                attention_backend=attention_backend,
                text_encoder_cpu_offload=text_encoder_cpu_offload,
                image_encoder_cpu_offload=image_encoder_cpu_offload,
                vae_cpu_offload=vae_cpu_offload,
                dit_cpu_offload=dit_cpu_offload,
                pin_cpu_memory=pin_cpu_memory,
                use_fsdp_inference=use_fsdp_inference,
                hsdp_shard_dim=hsdp_shard_dim,
                vae_tiling=vae_tiling,
                enable_torch_compile=enable_torch_compile,
                step_cache=step_cache,
                use_ipex=use_ipex,
                profile=None if profile is None else str(Path(profile).absolute()),
            )
        )

    def generate(
        self,
        prompt: str | Sequence[str],
        *,
        image: ImageInput | Sequence[ImageInput] | None = None,
        negative_prompt: str | None = None,
        num_frames: int | None = None,
        height: int | None = None,
        width: int | None = None,
        fps: int | None = None,
        num_inference_steps: int | None = None,
        guidance_scale: float | None = None,
        guidance_scale_2: float | None = None,
        seed: int | None = None,
        num_outputs: int = 1,
        output_format: ImageFormat | None = None,
        fidelity: Fidelity = "exact",
        return_frames: bool = False,
        save_output: bool = True,
        output_path: str | Path = "outputs",
        on_progress: Callable[[int, Progress], None] | None = None,
    ) -> Output | list[Output]:
        """Generate, and wait.

        Args:
            prompt: one, or several.
            image: to start from, for models that take one or several: a path, a PIL image or an
                array, uint8 [H, W, 3]; the same for every output.
            negative_prompt: what to steer away from.
            num_frames: 1 makes an image. What is omitted here and below is the model's default.
            height: pixels.
            width: pixels.
            fps: frames a second of the file.
            num_inference_steps: denoising steps.
            guidance_scale: weight of the prompt (classifier-free guidance, arXiv:2207.12598).
            guidance_scale_2: the same for the low-noise steps of a model with two experts.
            seed: of the first output of each prompt; the next ones count up. Omitted: random ones.
            num_outputs: outputs a prompt.
            output_format: png, jpeg or webp, of an image; omitted: what `output_path` ends in, or png.
            fidelity: how far shortcuts may go; `bounded` lets `step_cache` skip steps.
            return_frames: give the frames too, uint8 [F, H, W, 3].
            save_output: keep the file under `output_path`.
            output_path: a file (.mp4, .png, .jpg, .webp), numbered if there are several, or a directory.
            on_progress: called with the output's place in the list, on a thread of its own gang.

        Returns:
            One output for one prompt and one output, else a list, prompt by prompt.

        Raises:
            RequestError: a value outside the model's limits, an image that cannot be read or that the
                model does not take, a folder that cannot be written; then nothing was generated.
            GenerationError: after everything else is saved, if an output failed.
        """
        images = as_list(image)
        requests = self._requests(
            [prompt] if isinstance(prompt, str) else list(prompt),
            num_outputs,
            names_of(images),
            {
                "negative_prompt": negative_prompt,
                "num_frames": num_frames,
                "height": height,
                "width": width,
                "fps": fps,
                "num_inference_steps": num_inference_steps,
                "guidance_scale": guidance_scale,
                "guidance_scale_2": guidance_scale_2,
                "seed": seed,
                "output_format": output_format,
                "fidelity": fidelity,
            },
        )
        if output_format is None:
            requests = [in_format_of(output_path, request) for request in requests]
        paths = plan_paths(output_path, requests) if save_output else [None] * len(requests)
        make_folders(path.parent for path in paths if path is not None)
        runs = self._runs(requests, images, return_frames=return_frames)
        futures = [
            self._dispatcher.submit(run, _numbered(index, on_progress))
            for index, run in enumerate(runs)
        ]
        try:
            outcomes = [
                _outcome(run, future, path)
                for run, future, path in zip(runs, futures, paths, strict=True)
            ]
        finally:
            for run, future in zip(runs, futures, strict=True):
                if not future.cancel() and not future.done():
                    self._dispatcher.cancel(run.run_id)
            # A run that is still on its way to its next step writes into a directory that is gone:
            # an error of its own, which nobody waits for.
            for run in runs:
                shutil.rmtree(run.directory, ignore_errors=True)
        good = [outcome for outcome in outcomes if not isinstance(outcome, str)]
        if len(good) < len(outcomes):
            raise GenerationError(
                _say_failures(requests, outcomes),
                [None if isinstance(outcome, str) else outcome for outcome in outcomes],
            )
        return good[0] if isinstance(prompt, str) and num_outputs == 1 else good

    def close(self) -> None:
        """End the gangs; a `generate` under way on another thread fails. Twice is nothing."""
        self._close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _requests(
        self,
        prompts: Sequence[str],
        num_outputs: int,
        images: Sequence[str],
        values: Mapping[str, Any],
    ) -> list[Request]:
        if not prompts:
            raise RequestError("prompt", list(prompts), "must not be empty")
        if num_outputs < 1:
            raise RequestError("num_outputs", num_outputs, "must be at least 1")
        given = {name: value for name, value in values.items() if value is not None}
        requests = []
        for prompt in prompts:
            for index in range(num_outputs):
                seed = {"seed": given["seed"] + index} if "seed" in given else {}
                requests.append(
                    resolve(parse(Params, {**given, "prompt": prompt, **seed}), self.card, images)
                )
        return requests

    def _runs(
        self, requests: Sequence[Request], images: Sequence[ImageInput], *, return_frames: bool
    ) -> list[Run]:
        """One run each, its directory made; the images lie in the first and are linked elsewhere."""
        directories = [Path(tempfile.mkdtemp(prefix="run-", dir=self._home)) for _ in requests]
        inputs = directories[0] / INPUTS
        try:
            write_inputs(images, inputs, self.card)
        except RequestError:
            for directory in directories:
                shutil.rmtree(directory)
            raise
        for directory in directories[1:]:
            (directory / INPUTS).symlink_to(inputs)
        return [
            Run(
                run_id=uuid4().hex,
                directory=str(directory),
                items=(
                    RunItem(
                        request=request,
                        file=f"output{request.suffix}",
                        return_frames=return_frames,
                    ),
                ),
            )
            for request, directory in zip(requests, directories, strict=True)
        ]


def _numbered(
    index: int, on_progress: Callable[[int, Progress], None] | None
) -> Callable[[News], None]:
    def on_news(news: News) -> None:
        if on_progress is not None and isinstance(news, Progress):
            on_progress(index, news)

    return on_news


def _outcome(run: Run, future: Future[Done | Failed], path: Path | None) -> Output | str:
    """What became of a run; why it failed, in words."""
    try:
        message = future.result()
        return _collect(run, message, path) if isinstance(message, Done) else message.message
    except (GangDied, GangError, OSError) as error:
        return str(error)


def _collect(run: Run, done: Done, path: Path | None) -> Output:
    """Move the finished file into place and read the frames."""
    (result,) = done.results
    file = Path(run.directory) / result.file
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{path.name}.part")
        shutil.copyfile(file, part)  # it may be another file system
        part.replace(path)
    frames = None
    if run.items[0].return_frames:
        import numpy as np

        frames = np.load(file.with_name(f"{file.name}.npy"))
    return Output(
        prompt=run.items[0].request.prompt,
        output_path=None if path is None else str(path),
        frames=frames,
        seed=result.seed,
        timings={**result.timings_s, "total": done.ended_at - done.started_at},
        width=result.width,
        height=result.height,
        num_frames=result.num_frames,
        fps=result.fps,
        peak_memory_bytes=done.peak_memory_bytes,
    )


def _say_failures(requests: Sequence[Request], outcomes: Sequence[Output | str]) -> str:
    failures = [
        f"{request.prompt[:40]!r}: {outcome}"
        for request, outcome in zip(requests, outcomes, strict=True)
        if isinstance(outcome, str)
    ]
    return f"{len(failures)} of {len(requests)} outputs failed: {'; '.join(failures)}"


def _close(dispatcher: Dispatcher, home: Path) -> None:
    dispatcher.close()
    shutil.rmtree(home, ignore_errors=True)
