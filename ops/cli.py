"""The command line `rushes`. Every command loads what it needs when it runs: `--help` is quick."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from jobs.errors import SettingsError
from ops.options import Chosen, Refused, shared_options

app = typer.Typer(
    name="rushes",
    help="Video generation as a durable job service over your own accelerators.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
bench = typer.Typer(help="Measure the service on this machine.", no_args_is_help=True)
app.add_typer(bench, name="bench")


@app.command()
@shared_options
def serve(
    chosen: Chosen,
    flower: Annotated[bool, typer.Option("--flower", help="Also run the dashboard.")] = False,
) -> None:
    """Run everything: API, relay, a worker a gang, and Redis and storage unless told otherwise."""
    from ops.stack.serve import serve as run

    raise typer.Exit(run(chosen.engine, chosen.settings, flower=flower))


@app.command()
@shared_options
def worker(chosen: Chosen) -> None:
    """Run the workers of one model: one Celery worker with one gang each, `--dp-size` of them."""
    from ops.workers import run_workers

    raise typer.Exit(run_workers(chosen.engine, chosen.settings))


@app.command()
def api() -> None:
    """Run the HTTP API."""
    from jobs.settings import load_settings
    from ops.roles import run_api

    run_api(load_settings())


@app.command()
def relay() -> None:
    """Run the relay: releases jobs to workers, requeues silent ones, sends webhooks."""
    from jobs.settings import load_settings
    from ops.roles import run_relay

    run_relay(load_settings())


@app.command()
def flower() -> None:
    """Run the Flower dashboard; each job is shown under its own id."""
    from jobs.settings import load_settings
    from ops.flower import run_flower

    run_flower(load_settings())


def main() -> None:
    """Entry point: what cannot be is one line and exit code 2, no traceback."""
    try:
        app()
    except (Refused, SettingsError) as error:
        print(f"rushes: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
