"""How Flower is started."""

from __future__ import annotations

import pytest

from jobs.errors import SettingsError
from jobs.settings import Settings
from ops.flower import flower_arguments


def arguments(settings: dict[str, object], *, oauth: bool = False) -> list[str]:
    return flower_arguments(Settings.model_validate(settings), oauth=oauth)


@pytest.mark.parametrize("setting", [{"flower_host": "0.0.0.0"}, {"flower_read_only": False}])
def test_beyond_loopback_or_able_to_act_it_wants_a_password_or_oauth(
    setting: dict[str, object],
) -> None:
    with pytest.raises(SettingsError, match="RUSHES_FLOWER_BASIC_AUTH"):
        arguments(setting)
    assert arguments(setting, oauth=True)
    assert arguments(setting | {"flower_basic_auth": "ada:se,cret"})


def test_it_only_reads_unless_told_otherwise_and_keeps_its_password_off_the_command_line() -> None:
    assert "--read-only=True" in arguments({})
    able = arguments({"flower_read_only": False, "flower_basic_auth": "ada:secret"})
    assert "--read-only=False" in able
    assert "secret" not in " ".join(able)
