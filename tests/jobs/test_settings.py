import pytest

from jobs.errors import SettingsError
from jobs.settings import Settings, load_settings


def test_the_environment_is_read_and_the_command_line_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUSHES_PORT", "31000")
    monkeypatch.setenv("RUSHES_REDIS_PREFIX", "a:")
    assert load_settings().port == 31000
    settings = load_settings(port=32000, host=None)
    assert (settings.port, settings.host, settings.redis_prefix) == (32000, "127.0.0.1", "a:")


@pytest.mark.parametrize(
    ("bad", "words"),
    [
        ({"lease_s": 3}, "at least three beats: raise it to 6 or lower RUSHES_BEAT_S 2"),
        ({"port": 99999}, "RUSHES_PORT"),
        ({"artifacts": "s3"}, "set RUSHES_S3_BUCKET"),
        ({"artifacts": "tape"}, "RUSHES_ARTIFACTS"),
        ({"rate": "often"}, "RUSHES_RATE: a rate must read like 60/minute, got 'often'"),
        ({"flower_basic_auth": "admin"}, "RUSHES_FLOWER_BASIC_AUTH must read user:password"),
        ({"flower_basic_auth": ":hush"}, "RUSHES_FLOWER_BASIC_AUTH must read user:password"),
        ({"s3_access_key_id": "a"}, "RUSHES_S3_SECRET_ACCESS_KEY"),
    ],
)
def test_a_contradiction_is_refused_in_one_line(bad: dict[str, object], words: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(**bad)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_secrets_do_not_show() -> None:
    settings = Settings.model_validate(
        {
            "s3_access_key_id": "id",
            "s3_secret_access_key": "hidden",
            "webhook_secret": "whsec_" + "hidden00" * 5,
        }
    )
    assert "hidden" not in repr(settings)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("RUSHES_LOGLEVEL", "RUSHES_LOG_LEVEL"),
        ("RUSHES_S3_BUCKETS", "RUSHES_S3_BUCKET"),
        ("rushes_prot", "RUSHES_PORT"),
    ],
)
def test_a_variable_that_is_no_setting_is_refused_with_the_nearest_name(
    monkeypatch: pytest.MonkeyPatch, name: str, meant: str
) -> None:
    monkeypatch.setenv(name, "hidden")
    with pytest.raises(SettingsError, match=rf"^{name} is no setting: did you mean {meant}\?$"):
        load_settings()


def test_a_password_of_the_dashboard_without_a_user_is_not_shown() -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(flower_basic_auth="hidden")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize("secret", ["hunter2", "whsec_", "whsec_c2hvcnQ=", "whsec_@@@@", "awhsec_"])
def test_a_webhook_secret_of_another_form_is_refused_unshown(secret: str) -> None:
    with pytest.raises(SettingsError, match="RUSHES_WEBHOOK_SECRET must be whsec_") as caught:
        load_settings(webhook_secret=secret)
    assert secret not in str(caught.value).replace("be whsec_", "").replace("echo whsec_", "")
