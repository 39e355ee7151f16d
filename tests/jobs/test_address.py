import pytest

from jobs.address import read

SENTINELS = "redis+sentinel://me:p%40ss@a:1,b,[::1]:3/jobs/2"


def test_one_server_is_as_redis_py_reads_it() -> None:
    address = read("redis://me:hush@h:6380/1")
    assert address.options["db"] == 1
    assert (address.tls, address.sentinels, address.ssl) == (False, (), {})
    assert address.broker_url == "redis://me:hush@h:6380/1"


@pytest.mark.parametrize(
    ("url", "db"),
    [
        ("redis://h", None),
        ("redis://h/", None),
        ("redis://h/2", 2),
        ("unix:///run/redis.sock", None),
    ],
)
def test_the_database_is_a_number_or_left_out(url: str, db: int | None) -> None:
    assert read(url).options.get("db") == db


@pytest.mark.parametrize("scheme", ["sentinel", "redis+sentinel"])
def test_sentinels_are_told_from_the_servers_that_they_watch(scheme: str) -> None:
    address = read(SENTINELS.replace("redis+sentinel", scheme))
    assert address.sentinels == (("a", 1), ("b", 26379), ("::1", 3))
    assert address.service == "jobs"
    assert address.options == {"username": "me", "password": "p@ss", "db": 2}
    assert address.sentinel_options == {}
    assert address.broker_url.startswith(
        "sentinel://me:p%40ss@a:1/2;sentinel://me:p%40ss@b:26379/2"
    )


def test_sentinels_may_want_a_password_of_their_own() -> None:
    address = read("sentinel://a/jobs?sentinel_password=x&socket_keepalive=true")
    assert address.sentinel_options == {"password": "x"}
    assert address.options == {"db": 0, "socket_keepalive": True}


def test_certificates_are_checked_unless_one_says_otherwise() -> None:
    assert read("rediss://h/0").ssl == {"ssl_cert_reqs": "required"}
    told = read("rediss://h/0?ssl_ca_certs=/ca.pem&ssl_cert_reqs=none")
    assert told.ssl == {"ssl_cert_reqs": "none", "ssl_ca_certs": "/ca.pem"}
    assert told.broker_url == "redis://h/0", "kombu would take a scheme of its own for no check"
    both = read("rediss+sentinel://a/jobs?ssl_ca_certs=/ca.pem")
    assert both.ssl["ssl_ca_certs"] == both.sentinel_options["ssl_ca_certs"] == "/ca.pem"
    assert both.sentinel_options["ssl"] is True


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:6379", "must specify one of the following schemes"),
        ("redis://h/notdb", "/db, a number"),
        ("rediss://h/-1", "/db, a number"),
        ("redis://h/1/2", "/db, a number"),
        ("redis://h/x?db=1", "/db, a number"),
        ("sentinel://a:1", "must read /service"),
        ("sentinel://a:1/jobs/x", "must read /service"),
        ("sentinel://a:1,/jobs", "each Sentinel must read"),
        ("sentinel://a:1;sentinel://b:2/jobs", "must read /service"),
    ],
)
def test_what_cannot_be_read_is_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        read(url)


def test_no_password_is_in_its_repr() -> None:
    assert "p@ss" not in repr(read(SENTINELS))
    assert "p%40ss" not in repr(read(SENTINELS))
