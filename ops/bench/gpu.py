"""`rushes bench gpu`: each switch and each way to share, one beside the other, as a Markdown table.

`--num-gpus` says which: the switches of one device, or the ways to share two or four.

A Wan of random weights is made first: at the size of Wan2.1-T2V-1.3B with `--full`, else tiny, which
shows that every row runs. Each row is a gang of its own that generates twice, the second time measured;
its frames are held against the first row's. What a device cannot serve says so in its row.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ops.bench.parallel import PROMPT, RANK_S, BenchError
from ops.options import Refused
from ops.progress import Shown, shown_progress
from pipeline.gang.gang import GangError
from pipeline.generator import DiffGenerator, GenerationError
from pipeline.options import EngineOptions
from pipeline.request import Params, Request, resolve

HEAD = (
    "| what | s a step | s decoding | peak a rank | frames: max, mean off |\n|---|---|---|---|---|"
)


_DEGREES = ("dp_size", "sp_degree", "ulysses_degree", "ring_degree", "tp_size")


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    """What of EngineOptions is special to it."""
    request: Mapping[str, Any] = field(default_factory=dict)
    """What of the request is."""
    ranks: str = ""
    """What `ops.bench.gpu_rank` runs in place of a gang."""


OFFLOADS = {
    "text_encoder_cpu_offload": True,
    "vae_cpu_offload": True,
    "dit_cpu_offload": True,
}

ONE = (
    Row("one device"),
    Row("text_encoder_cpu_offload", {"text_encoder_cpu_offload": True}),
    Row("vae_cpu_offload", {"vae_cpu_offload": True}),
    Row("dit_cpu_offload", {"dit_cpu_offload": True}),
    Row("dit_cpu_offload, pinned", {"dit_cpu_offload": True, "pin_cpu_memory": True}),
    Row("all three, pinned", {**OFFLOADS, "pin_cpu_memory": True}),
    Row("vae_tiling on", {"vae_tiling": "on"}),
    *(
        Row(f"attention {name}", {"attention_backend": name})
        for name in ("sdpa", "_native_flash", "_native_cudnn", "_native_efficient", "fa3")
    ),
    Row("compile", {"enable_torch_compile": True}),
    Row(
        "compile, attention _native_cudnn",
        {"enable_torch_compile": True, "attention_backend": "_native_cudnn"},
    ),
    Row("FSDP of one", {"use_fsdp_inference": True}),
    Row("step_cache", {"step_cache": True}, {"fidelity": "bounded"}),
    Row("gloo, two ranks on this device (ulysses 2)", ranks="shared"),
)

TWO = (
    Row("cfg 2", {"enable_cfg_parallel": True}),
    Row("ulysses 2", {"ulysses_degree": 2}),
    Row("ring 2", {"ring_degree": 2}),
    Row("tp 2", {"tp_size": 2}),
    Row("fsdp 2 (ulysses 2)", {"use_fsdp_inference": True, "ulysses_degree": 2}),
    Row("diffusers' own ulysses 2", ranks="diffusers"),
)

FOUR = (
    Row("cfg 2 x ulysses 2", {"enable_cfg_parallel": True, "ulysses_degree": 2}),
    Row("cfg 2 x ring 2", {"enable_cfg_parallel": True, "ring_degree": 2}),
    Row("ulysses 4", {"ulysses_degree": 4}),
    Row("ring 4", {"ring_degree": 4}),
    Row("ulysses 2 x ring 2", {"ulysses_degree": 2, "ring_degree": 2}),
    Row("ulysses 2 x tp 2", {"ulysses_degree": 2, "tp_size": 2}),
    Row(
        "hsdp 2 x 2 (ulysses 4)",
        {"use_fsdp_inference": True, "hsdp_shard_dim": 2, "ulysses_degree": 4},
    ),
    Row("diffusers' own ulysses 4", ranks="diffusers"),
)

ROWS: Mapping[int, tuple[Row, ...]] = {1: ONE, 2: TWO, 4: FOUR}
"""By number of devices; whatever they are, the first of `ONE` stands above."""


@dataclass(frozen=True)
class Seen:
    """What a row came to."""

    step_s: float
    decoding_s: float
    peak_bytes: int
    frames: NDArray[np.uint8]


def run_gpu_bench(options: EngineOptions, *, full: bool, steps: int, only: str | None) -> int:
    """Make the model, run every row and print it; the exit code.

    Args:
        options: `model_path` lends tokenizer and scheduler; `num_gpus` says which rows; device,
            dtype and what else is set hold for every row.
        full: at full size.
        steps: denoising steps.
        only: run the first row and those whose name has this in it.

    Raises:
        Refused: there are no rows for so many devices, or a degree is asked for: the rows have theirs.
    """
    gpus = options.num_gpus or 1
    if gpus not in ROWS:
        raise Refused(f"num_gpus {gpus}: there are rows for {', '.join(map(str, ROWS))}")
    if any(getattr(options, degree) is not None for degree in _DEGREES):
        raise Refused(f"{', '.join(_DEGREES)}: each row has its own")
    others = (row for row in ROWS[gpus] if row is not ONE[0] and (only or "") in row.name)
    rows = (ONE[0], *others)
    with shown_progress() as shown, tempfile.TemporaryDirectory(prefix="rushes-bench-") as home:
        shown("making the model")
        model = str(Path(home, "model"))
        command = [*(sys.executable, "-W", "ignore", "-m", "ops.bench.fullsize")]
        command += [options.model_path, model, "--steps", str(steps), *["--full"] * full]
        subprocess.run(command, check=True)
        own = options.model_copy(update={"model_path": model, "num_gpus": 1})
        print(HEAD)
        for line in _lines(own, rows, gpus, Path(home), shown):
            print(line, flush=True)  # what is measured is kept, should the rest be cut short
    return 0


def _lines(
    options: EngineOptions, rows: Sequence[Row], gpus: int, home: Path, shown: Shown
) -> Iterator[str]:
    first: Seen | None = None
    request: Request | None = None
    for number, row in enumerate(rows):
        shown(row.name, percent=100 * number / len(rows))
        update = {**row.options, "num_gpus": gpus if number else 1}
        own = options.model_copy(update=update)
        try:
            if row.ranks and request is not None:
                seen = _by_ranks(row, own, request, home / str(number), max(2, gpus))
            else:
                seen, request = _by_gang(row, own)
        except (ValueError, GangError, GenerationError, BenchError) as error:
            why = str(error).replace("|", "/")[:160]
            yield f"| {row.name} | - | - | - | {why} |"
            continue
        first = first or seen
        yield _line(row.name, seen, first)


def _by_gang(row: Row, options: EngineOptions) -> tuple[Seen, Request]:
    with DiffGenerator(options) as generator:
        request = resolve(Params(prompt=PROMPT, seed=7), generator.card)
        for _ in range(2):
            made = generator.generate(
                PROMPT, seed=7, save_output=False, return_frames=True, **row.request
            )
    if isinstance(made, list):
        raise TypeError("one prompt makes one output")
    timings = made["timings"]
    step_s = timings["denoising"] / request.num_inference_steps
    return Seen(step_s, timings["decoding"], made["peak_memory_bytes"], made["frames"]), request


def _by_ranks(
    row: Row, options: EngineOptions, request: Request, folder: Path, world_size: int
) -> Seen:
    folder.mkdir()
    command = [*(sys.executable, "-W", "ignore", "-m", "ops.bench.gpu_rank", row.ranks)]
    command += ["--world-size", str(world_size), "--folder", str(folder)]
    command += ["--options", options.model_dump_json(), "--request", request.model_dump_json()]
    environment = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ}
    if row.ranks == "shared":
        environment["TORCH_DISTRIBUTED_BACKEND"] = "gloo"
    processes = [
        subprocess.Popen(
            [*command, "--rank", str(rank)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(world_size)
    ]
    try:
        ends = [process.communicate(timeout=RANK_S) for process in processes]
    except subprocess.TimeoutExpired as error:
        raise BenchError(f"no answer within {RANK_S:g} s") from error
    finally:
        for process in processes:
            process.kill()
    for process, (_, errors) in zip(processes, ends, strict=True):
        if process.returncode:
            raise BenchError((errors.strip().splitlines() or ["a rank failed"])[-1])
    said = json.loads(ends[0][0].strip().splitlines()[-1])
    frames = np.load(folder / "frames.npy")
    return Seen(said["step_s"], said["decoding_s"], said["peak_memory_bytes"], frames)


def _line(name: str, seen: Seen, first: Seen) -> str:
    apart = np.abs(seen.frames.astype(int) - first.frames)
    off = f"{apart.max()}, {apart.mean():.4f}" if apart.max() else "0"
    peak = f"{seen.peak_bytes / 2**30:.2f} GiB"
    return f"| {name} | {seen.step_s:.3f} | {seen.decoding_s:.2f} | {peak} | {off} |"
