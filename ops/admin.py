"""`rushes admin`: workers, queue, quotas and jobs of all owners. Who reaches Redis is an admin."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from jobs.reports import QuotaReport, Report, WorkerReport
    from jobs.store import JobStore

admin = typer.Typer(help="Workers, queue, quotas and jobs of all owners.", no_args_is_help=True)

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
WorkerId = Annotated[str, typer.Argument(metavar="WORKER", help="As `workers` shows it.")]
JobId = Annotated[str, typer.Argument(metavar="JOB", help="Its id, whoever's it is.")]


@admin.command()
def workers(*, as_json: AsJson = False) -> None:
    """Every live worker and what it holds."""
    from jobs.admin import Admin

    with _store() as store:
        found = Admin(store).workers()
    _show(found, _worker_table(found.data), as_json=as_json)


@admin.command()
def drain(
    worker: WorkerId,
    *,
    hand_back: Annotated[
        bool, typer.Option("--hand-back", help="Put its job back rather than let it finish.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let a worker take no more jobs, until `undrain` or its end."""
    from jobs.admin import Admin

    with _store() as store:
        found = Admin(store).drain(worker, hand_back=hand_back)
    _show(found, _worker_table([found]), as_json=as_json)


@admin.command()
def undrain(worker: WorkerId, *, as_json: AsJson = False) -> None:
    """Let a drained worker take jobs again."""
    from jobs.admin import Admin

    with _store() as store:
        found = Admin(store).undrain(worker)
    _show(found, _worker_table([found]), as_json=as_json)


@admin.command()
def queue(*, as_json: AsJson = False) -> None:
    """What runs, and who waits, over all owners."""
    from jobs.admin import Admin

    with _store() as store:
        found = Admin(store).queue()
    running = _table("runs", "owner", "model", "worker", "attempt", "stage", "since")
    for job in found.running:
        stage = f"{job.stage} {job.step}/{job.steps}" if job.stage else ""
        row = (job.id, job.owner, job.model, job.worker, str(job.attempt), stage)
        running.add_row(*row, _age(job.started_at))
    waiting = _table("waits", "model", "priority", "owner", "next", "oldest")
    for each in found.waiting:
        waiting.add_row(
            str(each.jobs),
            each.model,
            str(each.priority),
            each.owner,
            each.oldest,
            _age(each.oldest_at),
        )
    _show(found, running, waiting, as_json=as_json)


@admin.command()
def cancel(job: JobId, *, as_json: AsJson = False) -> None:
    """Cancel anybody's job."""
    with _store() as store:
        _tell(store.cancel(job).id, "cancelled", as_json=as_json)


@admin.command()
def requeue(job: JobId, *, as_json: AsJson = False) -> None:
    """Take a running job from its worker at once and queue it again; it counts as no failure."""
    from jobs.admin import Admin

    with _store() as store:
        _tell(Admin(store).requeue(job).id, "queued", as_json=as_json)


@admin.command()
def quotas(*, as_json: AsJson = False) -> None:
    """What every key may have, and has."""
    from jobs.quotas import Quotas

    with _store() as store:
        found = Quotas(store).list()
    _show(found, _quota_table(found.data), as_json=as_json)


@admin.command()
def quota(
    key: Annotated[str, typer.Argument(metavar="KEY", help="As `quotas` or `keys list` show it.")],
    *,
    max_running: Annotated[
        int | None, typer.Option(min=0, help="Jobs that run at once; 0 lifts it.")
    ] = None,
    max_queued: Annotated[
        int | None, typer.Option(min=0, help="Jobs that wait; 0 lifts it.")
    ] = None,
    daily_gpu_s: Annotated[
        float | None, typer.Option(min=0, help="GPU-seconds a UTC day; 0 lifts it.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show one key's quotas, or change those that are named."""
    from jobs.quotas import Limits, Quotas

    wanted = {"max_running": max_running, "max_queued": max_queued, "daily_device_s": daily_gpu_s}
    changes = {name: value or None for name, value in wanted.items() if value is not None}
    with _store() as store:
        if changes:
            found = Quotas(store).limit(key, Limits.model_validate(changes))
        else:
            found = Quotas(store).show(key)
    _show(found, _quota_table([found]), as_json=as_json)


@contextmanager
def _store() -> Iterator[JobStore]:
    """The job store; what it refuses is one line."""
    from pydantic import ValidationError

    from jobs.errors import RushesError, SettingsError
    from jobs.settings import load_settings
    from ops.stack.embedded import store_of

    try:
        with store_of(load_settings()) as store:
            yield store
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise SettingsError(f"{first['loc'][0]}: {first['msg']}") from None
    except RushesError as error:
        raise SettingsError(str(error)) from None


def _worker_table(found: Iterable[WorkerReport]) -> Any:
    table = _table(
        "worker", "host", "model", "state", "computes", "stores", "GPUs", "restarts", "up"
    )
    for worker in found:
        row = (worker.id, worker.host, worker.model, worker.state, worker.computes or "")
        counts = (str(worker.devices), str(worker.restarts))
        table.add_row(*row, "\n".join(worker.stores), *counts, _age(worker.started_at))
    return table


def _quota_table(found: Iterable[QuotaReport]) -> Any:
    table = _table("key", "name", "running", "queued", "GPU-s today", "expected")
    for each in found:
        table.add_row(
            each.owner,
            each.name,
            _of(each.running, each.max_running),
            _of(each.queued, each.max_queued),
            _of(round(each.device_s_today, 1), each.daily_device_s),
            f"{each.device_s_expected:.1f}",
        )
    return table


def _of(what: float, most: float | None) -> str:
    return f"{what:g}" if most is None else f"{what:g} of {most:g}"


def _age(since: float) -> str:
    seconds = max(0, int(time.time() - since))
    hours, minutes = seconds // 3600, seconds // 60 % 60
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {seconds % 60:02} s"


def _table(*columns: str) -> Any:
    from rich.table import Table

    return Table(*columns)


def _show(report: Report, *tables: Any, as_json: bool) -> None:
    if as_json:
        print(report.model_dump_json())
        return
    from rich.console import Console

    console = Console(width=None if sys.stdout.isatty() else 200)
    for table in tables:
        console.print(table)


def _tell(job_id: str, state: str, *, as_json: bool) -> None:
    print(f'{{"id": "{job_id}", "status": "{state}"}}' if as_json else f"{job_id} is {state}")
