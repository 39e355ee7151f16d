import pytest

from jobs.errors import SettingsError
from ops.stack.foreign import check_redis, judge, without_password
from ops.stack.ports import free_port

SAFE = {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "always"}


def test_a_server_that_keeps_everything_is_not_warned_of() -> None:
    assert judge(SAFE) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"maxmemory-policy": "allkeys-lru"}, "set noeviction"),
        ({"appendonly": "no"}, "without AOF"),
        ({"appendfsync": "everysec"}, "appendfsync everysec"),
    ],
)
def test_a_server_that_may_lose_jobs_is_warned_of(change: dict[str, str], words: str) -> None:
    (warning,) = judge(SAFE | change)
    assert words in warning


def test_a_server_that_does_not_answer_is_refused_without_its_password() -> None:
    with pytest.raises(SettingsError) as refused:
        check_redis(f"redis://me:hush@127.0.0.1:{free_port()}/0")
    assert "RUSHES_REDIS_URL redis://me:***@127.0.0.1" in str(refused.value)
    assert "hush" not in str(refused.value)


def test_what_is_no_url_is_refused() -> None:
    with pytest.raises(SettingsError, match="RUSHES_REDIS_URL"):
        check_redis("localhost:6379")


def test_without_password() -> None:
    assert without_password("redis://h:1/0") == "redis://h:1/0"
    assert without_password("rediss://:pw@h:1/0") == "rediss://:***@h:1/0"
