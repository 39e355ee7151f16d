"""`rushes keys`, over the home's data without a running serve."""

from __future__ import annotations

import re
from pathlib import Path

from pydantic import SecretStr

from jobs.keys import Keys, Rights
from jobs.settings import Settings
from jobs.webhooks.secrets import secrets_of
from ops.stack.embedded import store_of
from tests.jobs.webhooks.making import OLD_SECRET, SECRET
from tests.ops.test_cli import refused, rushes


def test_a_key_is_made_shown_once_listed_and_revoked(tmp_path: Path) -> None:
    home = str(tmp_path)
    made = rushes(
        "keys", "create", "ann", "--rate", "5/minute", "--max-queued", "7", RUSHES_HOME=home
    )
    assert made.returncode == 0, made.stderr
    text = made.stdout.strip()
    assert re.fullmatch(r"rk_\w{26}_[\w-]{43}", text)
    assert text not in made.stderr
    with store_of(Settings(home=tmp_path)) as store:
        key = Keys(store).find(text)
    assert key is not None
    assert (key.name, key.rate, key.max_queued) == ("ann", "5/minute", 7)
    listed = rushes("keys", "list", RUSHES_HOME=home).stdout
    assert key.id in listed
    assert text not in listed
    assert key.id in rushes("keys", "revoke", key.id, RUSHES_HOME=home).stdout
    assert "revoked" in rushes("keys", "list", RUSHES_HOME=home).stdout


def test_a_key_has_a_webhook_secret_of_its_own(tmp_path: Path) -> None:
    home = str(tmp_path)
    settings = Settings(home=tmp_path, webhook_secret=SecretStr(f"{SECRET} {OLD_SECRET}"))
    with store_of(settings) as store:
        ids = [Keys(store).create(name, Rights())[0].id for name in ("ann", "bob")]
    environment = {"RUSHES_HOME": home, "RUSHES_WEBHOOK_SECRET": f"{SECRET} {OLD_SECRET}"}
    shown = [rushes("keys", "webhook-secret", each, **environment).stdout.split() for each in ids]
    assert shown == [list(secrets_of(each, settings)) for each in ids]
    assert len({SECRET, OLD_SECRET, *shown[0], *shown[1]}) == 6
    assert "no key" in refused(rushes("keys", "webhook-secret", "key_x", **environment))
    unsigned = refused(rushes("keys", "webhook-secret", ids[0], RUSHES_HOME=home))
    assert "RUSHES_WEBHOOK_SECRET" in unsigned


def test_what_cannot_be_is_one_line(tmp_path: Path) -> None:
    home = str(tmp_path)
    assert "--rate" in refused(rushes("keys", "create", "x", "--rate", "often", RUSHES_HOME=home))
    assert "--scope" in refused(rushes("keys", "create", "x", "--scope", "root", RUSHES_HOME=home))
    assert "NAME: " in refused(rushes("keys", "create", "x" * 300, RUSHES_HOME=home))
    assert "NAME: " in refused(rushes("keys", "create", "\udcff", RUSHES_HOME=home))
    assert "no key" in refused(rushes("keys", "revoke", "key_x", RUSHES_HOME=home))


def test_nothing_starts_beyond_loopback_unguarded(tmp_path: Path) -> None:
    said = refused(
        rushes("serve", "--host", "0.0.0.0", "--device", "cpu", RUSHES_HOME=str(tmp_path))
    )
    assert "rushes keys create" in said
    assert "RUSHES_OPEN=1" in said
