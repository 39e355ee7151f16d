"""`rushes generate`: one call of DiffGenerator, without any service."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from ops.options import Refused
from ops.progress import Shown, shown_progress
from pipeline.gang.gang import GangError, GangRefused
from pipeline.gang.protocol import Progress
from pipeline.generator import DiffGenerator, GenerationError, Output
from pipeline.limits import RequestError
from pipeline.options import EngineOptions
from pipeline.outputs import check_ending

DENOISING_SHARE = 0.9
"""Of an output's progress; decoding has the rest."""


def run_generate(
    options: EngineOptions,
    prompts: list[str],
    *,
    save_output: bool,
    output_path: Path,
    **values: Any,
) -> int:
    """Generate and print each output; the exit code.

    Args:
        options: what to load and how to share it.
        prompts: what to show, one after the other.
        save_output: keep the files.
        output_path: a file or a directory.
        values: further parameters of `DiffGenerator.generate`; None is the model's default.

    Raises:
        Refused: the model or the layout cannot be served, or a value is outside the model's limits.
    """
    began = time.monotonic()
    try:
        if save_output:
            check_ending(output_path)
        with shown_progress() as shown:
            shown("loading the model")
            with DiffGenerator(options) as generator:
                outputs = generator.generate(
                    prompts,
                    save_output=save_output,
                    output_path=output_path,
                    on_progress=Together(len(prompts) * values["num_outputs"], shown),
                    **values,
                )
                shown("done", percent=100)
    except (RequestError, ValueError) as error:
        raise Refused(str(error)) from None
    except GangRefused as error:
        raise Refused(str(error)) from None
    except GangError as error:
        print(f"rushes: {error}", file=sys.stderr)
        return 1
    except GenerationError as error:
        _print([output for output in error.outputs if output is not None])
        print(f"rushes: {error}", file=sys.stderr)
        return 1
    _print(outputs if isinstance(outputs, list) else [outputs])
    Console(stderr=True, highlight=False).print(f"{time.monotonic() - began:.1f} s in all")
    return 0


def all_prompts(given: Sequence[str], file: Path | None) -> list[str]:
    """Those given, then those of a file: one a line, UTF-8, empty lines left out; `-` is stdin.

    Raises:
        Refused: there is none, or the file cannot be read.
    """
    prompts = list(given)
    if file is not None:
        try:
            text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"--prompt-file {file} cannot be read: {error}") from None
        prompts += filter(None, map(str.strip, text.splitlines()))
    if not prompts:
        raise Refused("no prompt: give --prompt, or a --prompt-file with one a line")
    return prompts


class Together:
    """The progress of several outputs as one; gangs report on threads of their own."""

    def __init__(self, outputs: int, shown: Shown) -> None:
        self._done = [0.0] * outputs
        self._shown = shown

    def __call__(self, index: int, progress: Progress) -> None:
        """Take one report of one output."""
        stage, share = (
            progress.stage.lower().replace("_", " "),
            progress.step / max(1, progress.steps),
        )
        if stage == "denoising":
            self._done[index] = DENOISING_SHARE * share
        elif stage == "decoding":
            self._done[index] = DENOISING_SHARE + (1 - DENOISING_SHARE) * share
        which = f"output {index + 1} of {len(self._done)}, " if len(self._done) > 1 else ""
        self._shown(
            f"{which}{stage}: step {progress.step} of {progress.steps}",
            percent=100 * sum(self._done) / len(self._done),
        )


def _print(outputs: list[Output]) -> None:
    for output in outputs:
        print(_line(output))


def _line(output: Mapping[str, Any]) -> str:
    return (
        f"{output['output_path'] or '(not saved)'}: {output['num_frames']} frames, "
        f"{output['width']}x{output['height']}, {output['fps']} fps, seed {output['seed']}, "
        f"{output['timings']['total']:.1f} s"
    )
