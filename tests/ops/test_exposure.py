import pytest

from ops.stack.exposure import is_loopback, reached_from_here


@pytest.mark.parametrize("host", ["127.0.0.1", "127.1.2.3", "::1", "localhost"])
def test_loopback(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "8.8.8.8", "example.org"])
def test_beyond_loopback(host: str) -> None:
    assert not is_loopback(host)


def test_an_address_for_all_is_reached_by_loopback() -> None:
    assert reached_from_here("0.0.0.0") == "127.0.0.1"
    assert reached_from_here("::") == "::1"
    assert reached_from_here("10.0.0.7") == "10.0.0.7"
