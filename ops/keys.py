"""`rushes keys`: make, list and revoke API keys."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from jobs.keys import ApiKey

keys = typer.Typer(help="API keys: who may call, and how much.", no_args_is_help=True)


def _limit(text: str, **more: Any) -> Any:
    return typer.Option(help=text, show_default=False, rich_help_panel="Limits", **more)


@keys.command()
def create(
    name: Annotated[str, typer.Argument(help="Whose it is, for people.")],
    *,
    scope: Annotated[str, typer.Option(help="user, or admin.")] = "user",
    max_priority: Annotated[int, _limit("Highest priority of its jobs.", min=0, max=9)] = 0,
    rate: Annotated[str | None, _limit("New jobs, such as 60/minute.")] = None,
    max_running: Annotated[int | None, _limit("Jobs that run at once.", min=1)] = None,
    max_queued: Annotated[int | None, _limit("Jobs that wait.", min=1)] = None,
    daily_gpu_s: Annotated[float | None, _limit("GPU-seconds a UTC day.", min=0)] = None,
    webhook_url: Annotated[
        str | None, typer.Option(help="Called for its jobs that name no webhook.")
    ] = None,
    webhook_events: Annotated[
        str, typer.Option(help="in_progress, completed, ...; omitted: the ends of jobs.")
    ] = "",
) -> None:
    """Make a key and print it: it is kept nowhere and shown only now."""
    from pydantic import ValidationError

    from jobs.errors import SettingsError
    from jobs.keys import Keys, Rights
    from jobs.settings import load_settings
    from jobs.webhooks import check_webhook_url
    from ops.stack.embedded import store_of
    from pipeline.limits import RequestError

    wanted = {
        "scope": scope,
        "max_priority": max_priority,
        "rate": rate,
        "max_running": max_running,
        "max_queued": max_queued,
        "daily_device_s": daily_gpu_s,
        "webhook_url": webhook_url,
        "webhook_events": webhook_events.replace(",", " "),
    }
    settings = load_settings()
    try:
        rights = Rights.model_validate(wanted)
        if webhook_url is not None:
            check_webhook_url(webhook_url, settings)
        with store_of(settings) as store:
            key, text = Keys(store).create(name, rights)
    except RequestError as error:
        raise SettingsError(f"--webhook-url {error.allowed}") from None
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0])
        option = "--" + field.replace("_", "-").replace("device-s", "gpu-s")
        message = first["msg"].removeprefix("Value error, ")
        raise SettingsError(f"{'NAME' if field == 'name' else option}: {message}") from None
    print(f"{key.id} ({key.scope}) for {key.name}; the key is shown only now:", file=sys.stderr)
    print(text)


@keys.command("list")
def index() -> None:
    """Every key, without what it opens with."""
    from rich.console import Console
    from rich.table import Table

    from jobs.keys import Keys
    from jobs.settings import load_settings
    from ops.stack.embedded import store_of

    with store_of(load_settings()) as store:
        found = Keys(store).list()
    table = Table("id", "name", "scope", "priority", "limits", "made", "state")
    for key in found:
        state = "revoked" if key.revoked_at else "valid"
        priority = f"<= {key.max_priority}"
        table.add_row(
            key.id, key.name, key.scope, priority, _limits(key), _day(key.created_at), state
        )
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@keys.command()
def revoke(key_id: Annotated[str, typer.Argument(help="As `list` shows it.")]) -> None:
    """Make a key worthless, within a second; the jobs it has made go on."""
    from jobs.errors import NotFound, SettingsError
    from jobs.keys import Keys
    from jobs.settings import load_settings
    from ops.stack.embedded import store_of

    with store_of(load_settings()) as store:
        try:
            key = Keys(store).revoke(key_id)
        except NotFound as error:
            raise SettingsError(str(error)) from None
    print(f"{key.id} ({key.name}) is revoked")


@keys.command("webhook-secret")
def webhook_secret(key_id: Annotated[str, typer.Argument(help="As `list` shows it.")]) -> None:
    """Print what the key's webhooks are signed with: one line a RUSHES_WEBHOOK_SECRET, newest first."""
    from jobs.errors import SettingsError
    from jobs.keys import Keys
    from jobs.settings import load_settings
    from jobs.webhooks.secrets import secrets_of
    from ops.stack.embedded import store_of

    settings = load_settings()
    if not settings.webhook_secrets:
        raise SettingsError("no webhook is signed: set RUSHES_WEBHOOK_SECRET as the service has it")
    with store_of(settings) as store:
        if key_id not in [key.id for key in Keys(store).list()]:
            raise SettingsError(f"no key {key_id!r}")
    print(*secrets_of(key_id, settings), sep="\n")


def _limits(key: ApiKey) -> str:
    told = {
        "rate": key.rate,
        "running": key.max_running,
        "queued": key.max_queued,
        "GPU-s/day": key.daily_device_s,
    }
    return ", ".join(f"{name} {value}" for name, value in told.items() if value is not None)


def _day(time_s: float) -> str:
    return datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%d")
