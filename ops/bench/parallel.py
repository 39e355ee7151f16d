"""`rushes bench parallel`: every layout beside one rank.

`--table`: results, memory and bytes sent of each layout, against the papers' formulas; the table of
docs/PARALLELISM.md. Without it, time: a mid-size random Wan on two ranks beside one rank that has as
many cores, all gangs warm at once and taking turns.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ops.bench.formulas import sent_bytes
from ops.progress import Shown, shown_progress
from pipeline.generator import DiffGenerator
from pipeline.layout import Layout
from pipeline.options import EngineOptions
from pipeline.request import Params

RANK_S = 600.0
PROMPT = "a red circle moving right on a black background"


class BenchError(Exception):
    """A rank failed."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    name: str
    layout: Layout
    options: Mapping[str, Any] = field(default_factory=dict)
    """What of EngineOptions is special to it."""

    @property
    def shard_dim(self) -> int | None:
        """Ranks to a copy of sharded weights; None: not sharded."""
        if not self.options.get("use_fsdp_inference"):
            return None
        return int(self.options.get("hsdp_shard_dim") or self.layout.gang_size)


ROWS = (
    Row("1", Layout()),
    Row("ulysses 2", Layout(ulysses=2)),
    Row("ring 2", Layout(ring=2)),
    Row("ring 3", Layout(ring=3)),
    Row("cfg 2", Layout(cfg=2)),
    Row("tp 2", Layout(tp=2)),
    Row("ulysses 2 x ring 2", Layout(ring=2, ulysses=2)),
    Row("cfg 2 x ulysses 2", Layout(cfg=2, ulysses=2)),
    Row("cfg 2 x ring 2", Layout(cfg=2, ring=2)),
    Row("fsdp 2 (ulysses 2)", Layout(ulysses=2), {"use_fsdp_inference": True}),
    Row(
        "hsdp 2 x 2 (ulysses 4)",
        Layout(ulysses=4),
        {"use_fsdp_inference": True, "hsdp_shard_dim": 2},
    ),
    Row("dp 2", Layout(dp=2)),
)


def run_table(options: EngineOptions, rows: Sequence[Row] = ROWS) -> int:
    """Generate the same request with every layout and print the table, as Markdown; the exit code."""
    with shown_progress() as shown, tempfile.TemporaryDirectory(prefix="rushes-bench-") as folder:
        try:
            print(HEAD, flush=True)
            for line in _lines(options, rows, Path(folder), shown):
                print(line, flush=True)  # what is measured is kept, should the rest be cut short
        except BenchError as error:
            print(f"rushes: {error}", file=sys.stderr)
            return 1
    return 0


HEAD = (
    "| layout | latent: max, mean off | pixels: max, mean off | K, V a rank: peak | weights a rank: "
    "kept, peak | sent a rank and step | by formula | off |\n|---|---|---|---|---|---|---|---|"
)


def _lines(options: EngineOptions, rows: Sequence[Row], home: Path, shown: Shown) -> Iterator[str]:
    import numpy as np

    first: Path | None = None
    for number, row in enumerate(rows):
        shown(row.name, percent=100 * number / len(rows))
        folder = home / str(number)
        seen = _generate(options.model_copy(update=dict(row.options)), row.layout, folder)
        first = first or folder
        latent, pixels = (
            np.abs(np.load(folder / name).astype(float) - np.load(first / name).astype(float))
            for name in ("latent.npy", "frames.npy")
        )
        counted = statistics.mean(sum(rank["sent_bytes_a_step"].values()) for rank in seen)
        formula = sum(sent_bytes(row.layout, seen[0]["shape"], shard_dim=row.shard_dim).values())
        off = f"{100 * (counted / formula - 1):+.2f} %" if formula else "-"
        kept, peak = (
            max(rank[name] for rank in seen) for name in ("kept_weight_bytes", "weight_bytes")
        )
        cells = (
            row.name,
            f"{latent.max():.1e}, {latent.mean():.1e}" if latent.max() else "0",
            f"{pixels.max():.0f}, {pixels.mean():.4f}" if pixels.max() else "0",
            f"{max(rank['key_value_bytes'] for rank in seen) / 2**10:,.0f} KiB",
            f"{kept / 2**20:.2f}, {peak / 2**20:.2f} MiB",
            f"{counted / 2**20:.3f} MiB" if counted else "0",
            f"{formula / 2**20:.3f} MiB" if formula else "0",
            off,
        )
        yield f"| {' | '.join(cells)} |"


def _generate(options: EngineOptions, layout: Layout, folder: Path) -> list[dict[str, Any]]:
    """What each rank of one gang saw; with dp, of the last of the gangs that ran at once.

    Raises:
        BenchError: a rank failed.
    """
    gang = Layout(cfg=layout.cfg, ring=layout.ring, ulysses=layout.ulysses, tp=layout.tp)
    places = [folder / f"gang{number}" for number in range(1, layout.dp)] + [folder]
    for place in reversed(places):
        place.mkdir()
    processes = [
        _start(options, gang, place, rank) for place in places for rank in range(gang.gang_size)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=RANK_S)
        if process.returncode:
            raise BenchError(errors.strip().splitlines()[-1] if errors.strip() else "a rank failed")
    return [json.loads((folder / f"{rank}.json").read_text()) for rank in range(gang.gang_size)]


def _start(
    options: EngineOptions, layout: Layout, folder: Path, rank: int
) -> subprocess.Popen[str]:
    degrees = {name: getattr(layout, name) for name in ("cfg", "ring", "ulysses", "tp")}
    command = [
        *(sys.executable, "-W", "ignore", "-m", "ops.bench.parallel_rank"),
        *("--rank", str(rank), "--folder", str(folder), "--layout", json.dumps(degrees)),
        *("--options", options.model_dump_json()),
        *("--params", Params(prompt=PROMPT, seed=7).model_dump_json(exclude_none=True)),
    ]
    environment = {"OMP_WAIT_POLICY": "PASSIVE", "OMP_NUM_THREADS": "1", **os.environ}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def run_speed(options: EngineOptions, rounds: int) -> int:
    """Print the ratio of step times, two ranks against one on the same cores; the exit code."""
    layouts: dict[str, dict[str, Any]] = {
        "1 rank": {"num_gpus": 1},
        "ulysses 2": {"num_gpus": 2, "ulysses_degree": 2},
        "cfg 2": {"num_gpus": 2, "enable_cfg_parallel": True},
    }
    with shown_progress() as shown, tempfile.TemporaryDirectory(prefix="rushes-bench-") as folder:
        shown("making a random model")
        command = [sys.executable, "-W", "ignore", "-m", "ops.bench.midsize"]
        subprocess.run([*command, options.model_path, folder], check=True)
        own = options.model_copy(update={"model_path": folder})
        gangs = {
            name: DiffGenerator(own.model_copy(update=degrees)) for name, degrees in layouts.items()
        }
        step_s: dict[str, list[float]] = {name: [] for name in layouts}
        try:
            for number in range(-1, rounds):
                for name, generator in gangs.items():
                    shown(name, percent=100 * max(0, number) / rounds)
                    seconds = _step_s(generator)
                    if number >= 0:  # the first round warms up
                        step_s[name].append(seconds)
        finally:
            for generator in gangs.values():
                generator.close()
    print(f"{rounds} rounds, load {os.getloadavg()[0]:.1f} to {os.getloadavg()[1]:.1f}")
    for name, times in step_s.items():
        ratios = [mine / one for mine, one in zip(times, step_s["1 rank"], strict=True)]
        print(
            f"{name}: {statistics.median(times):.3f} s a step ({min(times):.3f} to "
            f"{max(times):.3f}), median of the rounds' ratios {statistics.median(ratios):.3f}, "
            f"ratio of the least {min(times) / min(step_s['1 rank']):.3f}"
        )
    return 0


def _step_s(generator: DiffGenerator) -> float:
    output = generator.generate(PROMPT, seed=7, save_output=False)
    if isinstance(output, list):
        raise TypeError("one prompt makes one output")
    return output["timings"]["denoising"] / generator.card.num_inference_steps
