"""The command line `rushes`. Every command loads what it needs when it runs: `--help` is quick."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer._click.exceptions import ClickException

from jobs.errors import EXIT_REFUSED, SettingsError
from ops.admin import admin
from ops.keys import keys
from ops.options import Chosen, Refused, of_request, shared_options
from pipeline.options import Device
from pipeline.request import Fidelity, ImageFormat

app = typer.Typer(
    name="rushes",
    help="Video generation as a durable job service over your own accelerators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench = typer.Typer(help="Measure the service on this machine.", no_args_is_help=True)
app.add_typer(bench, name="bench")
app.add_typer(keys, name="keys")
app.add_typer(admin, name="admin")


Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse a Redis that may lose jobs, rather than warn.")
]


@app.command()
@shared_options
def serve(
    chosen: Chosen,
    flower: Annotated[bool, typer.Option("--flower", help="Also run the dashboard.")] = False,
    strict: Strict = False,
) -> None:
    """Run everything: API, relay, a worker a gang, and Redis and storage unless told otherwise."""
    from ops.stack.serve import serve as run

    raise typer.Exit(run(chosen.engine, chosen.settings, flower=flower, strict=strict))


@app.command()
@shared_options
def worker(chosen: Chosen, strict: Strict = False) -> None:
    """Run the workers of one model: one Celery worker with one gang each, `--dp-size` of them."""
    from ops.workers import run_workers

    raise typer.Exit(run_workers(chosen.engine, chosen.settings, strict=strict))


@app.command()
def api(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on [RUSHES_HOST].", show_default=False)
    ] = None,
    port: Annotated[
        int | None,
        typer.Option(help="Port to listen on [RUSHES_PORT].", min=1, max=65535, show_default=False),
    ] = None,
    strict: Strict = False,
) -> None:
    """Run the HTTP API."""
    from jobs.settings import load_settings
    from ops.roles import run_api

    run_api(load_settings(host=host, port=port), strict=strict)


@app.command()
def relay(strict: Strict = False) -> None:
    """Run the relay: releases jobs to workers, requeues silent ones, sends webhooks."""
    from jobs.settings import load_settings
    from ops.roles import run_relay

    run_relay(load_settings(), strict=strict)


@app.command()
def flower() -> None:
    """Run the Flower dashboard; each job is shown under its own id."""
    from jobs.settings import load_settings
    from ops.flower import run_flower

    run_flower(load_settings())


@app.command()
@shared_options
def generate(
    chosen: Chosen,
    *,
    prompt: Annotated[
        list[str] | None, typer.Option(help="What to show; again for another.", show_default=False)
    ] = None,
    prompt_file: Annotated[
        Path | None,
        typer.Option(help="More prompts, each line one; - reads stdin.", allow_dash=True),
    ] = None,
    negative_prompt: Annotated[
        str | None, typer.Option(help="What to steer away from.", show_default=False)
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option(help="Start from this image; again for another.", show_default=False),
    ] = None,
    num_frames: Annotated[int | None, of_request("Frames; 1 makes an image.")] = None,
    height: Annotated[int | None, of_request("Pixels.")] = None,
    width: Annotated[int | None, of_request("Pixels.")] = None,
    fps: Annotated[int | None, of_request("Frames a second of the file.")] = None,
    num_inference_steps: Annotated[int | None, of_request("Denoising steps.")] = None,
    guidance_scale: Annotated[float | None, of_request("Weight of the prompt.")] = None,
    guidance_scale_2: Annotated[
        float | None, of_request("The same for the low-noise steps of a model with two experts.")
    ] = None,
    seed: Annotated[int | None, of_request("Of the first output; the next count up.")] = None,
    output_format: Annotated[
        ImageFormat | None, of_request("Of an image. Omitted: what the file ends in, or png.")
    ] = None,
    fidelity: Annotated[
        Fidelity, typer.Option(help="How far shortcuts such as --step-cache may go.")
    ] = "exact",
    num_outputs: Annotated[int, typer.Option(min=1, help="Outputs to make.")] = 1,
    save_output: Annotated[bool, typer.Option(help="Keep the files.")] = True,
    output_path: Annotated[Path, typer.Option(help="A file or a folder.")] = Path("outputs"),
) -> None:
    """Generate on this machine's devices, without any service."""
    from ops.generate import all_prompts, run_generate

    chosen.tell_ranks()
    raise typer.Exit(
        run_generate(
            chosen.engine,
            all_prompts(prompt or [], prompt_file),
            save_output=save_output,
            output_path=output_path,
            image=image,
            negative_prompt=negative_prompt,
            num_frames=num_frames,
            height=height,
            width=width,
            fps=fps,
            num_inference_steps=num_inference_steps,
            guidance_scale=guidance_scale,
            guidance_scale_2=guidance_scale_2,
            seed=seed,
            output_format=output_format,
            fidelity=fidelity,
            num_outputs=num_outputs,
        )
    )


@app.command()
def demo(
    prompt: Annotated[
        str, typer.Option(help="What to show.")
    ] = "a red circle moving right on a black background",
    out: Annotated[Path, typer.Option(help="Where the clip goes.")] = Path("demo.mp4"),
    seed: Annotated[int | None, typer.Option(help="Omitted: a random one.", min=0)] = None,
    model_path: Annotated[
        str | None, typer.Option(help="Another model than the demo's.", show_default=False)
    ] = None,
) -> None:
    """Make one clip through the whole service on this machine, then take everything down."""
    from ops.demo import run_demo

    home = os.environ.get("RUSHES_HOME")
    raise typer.Exit(
        run_demo(
            {"prompt": prompt} if seed is None else {"prompt": prompt, "seed": seed},
            out,
            home=Path(home).expanduser() if home else None,
            model_path=model_path,
        )
    )


@app.command()
def doctor(
    *,
    device: Annotated[Device | None, typer.Option(help="Look at this kind of device.")] = None,
    num_gpus: Annotated[
        int | None, typer.Option(min=1, help="Ranks to try, and to lay the model out for.")
    ] = None,
    model_path: Annotated[
        str | None, typer.Option(help="Propose a layout for this Diffusers directory or hub id.")
    ] = None,
    width: Annotated[
        int | None,
        typer.Option(min=1, help="Pixels, for the layout. Omitted: the model's own."),
    ] = None,
    height: Annotated[
        int | None,
        typer.Option(min=1, help="Pixels, for the layout. Omitted: the model's own."),
    ] = None,
    num_frames: Annotated[
        int | None,
        typer.Option(min=1, help="Frames, for the layout. Omitted: the model's own."),
    ] = None,
    log: Annotated[Path | None, typer.Option(help="Find known problems in this log.")] = None,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds for each exchange.")] = 30.0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Look at this machine, try what the service needs, and say what mends the rest."""
    from jobs.settings import load_settings
    from ops.doctor.doctor import Questions, run_doctor

    questions = Questions(
        device=device,
        num_gpus=num_gpus,
        model_path=model_path,
        width=width,
        height=height,
        num_frames=num_frames,
        log=log,
        timeout_s=timeout,
    )
    raise typer.Exit(run_doctor(questions, load_settings(), as_json=as_json))


@bench.command()
@shared_options
def overhead(
    chosen: Chosen,
    jobs: Annotated[int, typer.Option(min=1, help="Jobs to take the median of.")] = 20,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write this file.")] = None,
) -> None:
    """What the service adds to a generation, beside the generator called directly."""
    from ops.bench.overhead import run_overhead

    chosen.tell_ranks()
    raise typer.Exit(run_overhead(chosen.engine, jobs, json_file))


@bench.command("parallel")
@shared_options
def bench_parallel(
    chosen: Chosen,
    *,
    table: Annotated[
        bool, typer.Option("--table", help="Results, memory and bytes of every layout.")
    ] = False,
    rounds: Annotated[int, typer.Option(min=1, help="Turns that each gang takes.")] = 7,
) -> None:
    """Every layout beside one rank: step times, or with --table results, memory and bytes sent."""
    from ops.bench.parallel import run_speed, run_table

    chosen.tell_ranks()
    raise typer.Exit(run_table(chosen.engine) if table else run_speed(chosen.engine, rounds))


@bench.command("gpu")
@shared_options
def bench_gpu(
    chosen: Chosen,
    *,
    full: Annotated[
        bool, typer.Option("--full", help="Wan2.1-1.3B's size, 81 frames 480x832; else tiny.")
    ] = False,
    steps: Annotated[int, typer.Option(min=2, help="Denoising steps.")] = 4,
    only: Annotated[
        str | None, typer.Option(help="Only rows with this in their name, beside the first.")
    ] = None,
) -> None:
    """Each switch of one device, or each way to share --num-gpus 2 or 4: time, memory, difference."""
    from ops.bench.gpu import run_gpu_bench

    chosen.tell_ranks()
    raise typer.Exit(run_gpu_bench(chosen.engine, full=full, steps=steps, only=only))


@bench.command("checkpoints")
@shared_options
def bench_checkpoints(
    chosen: Chosen,
    pairs: Annotated[int, typer.Option(min=1, help="Runs with and without, by turns.")] = 15,
    every: Annotated[int, typer.Option(min=1, help="Steps between two checkpoints.")] = 5,
) -> None:
    """What checkpoints cost a step, and how a killed gang's run goes on from one."""
    from ops.bench.checkpoints import run_checkpoint_bench

    chosen.tell_ranks()
    raise typer.Exit(run_checkpoint_bench(chosen.engine, pairs, every))


@bench.command("api")
def bench_api(
    seconds: Annotated[float, typer.Option(min=0.2, help="Of each measurement.")] = 5.0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds to take the median of.")] = 3,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write this file.")] = None,
) -> None:
    """Jobs that the API accepts beside a bare send_task loop; answers beside a no-op view."""
    from ops.bench.api import run_api_bench

    raise typer.Exit(run_api_bench(seconds, rounds, json_file))


@bench.command("record")
def bench_record(
    jobs: Annotated[int, typer.Option(min=1, help="Jobs to put through it.")] = 100_000,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write this file.")] = None,
) -> None:
    """Many jobs through the record alone: time and memory of each."""
    from ops.bench.record import run_record_bench

    raise typer.Exit(run_record_bench(jobs, json_file))


@bench.command("faults")
@shared_options
def bench_faults(
    chosen: Chosen,
    times: Annotated[int, typer.Option(min=1, help="Cancels, and hand-overs of each kind.")] = 5,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write this file.")] = None,
) -> None:
    """How soon a cancelled job's gang is free, and a standby relay leads."""
    from ops.bench.faults import run_faults_bench

    chosen.tell_ranks()
    raise typer.Exit(run_faults_bench(chosen.engine, times, json_file))


def main() -> None:
    """Entry point: what cannot be is one line and exit code 2, no traceback."""
    try:
        code = app(standalone_mode=False)
    except (Refused, SettingsError) as error:
        refusal = str(error)
    except ClickException as error:
        # Without arguments the help was printed already, and there is nothing to add.
        refusal = " ".join(error.format_message().replace(": Value error,", ":").split())
    else:
        sys.exit(code if isinstance(code, int) else 0)
    if refusal:
        print(f"rushes: {refusal}", file=sys.stderr)
    sys.exit(EXIT_REFUSED)


if __name__ == "__main__":
    main()
