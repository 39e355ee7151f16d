import errno
import socket

import pytest

from ops.stack.ports import LOOPBACK, free_port, is_free, reached_from_here


def test_a_port_in_use_is_not_free() -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not is_free(LOOPBACK, port)
        assert not is_free("0.0.0.0", port)
    assert is_free(LOOPBACK, port)


def test_an_address_of_others_is_not_called_taken() -> None:
    with pytest.raises(OSError, match="this machine has no such address"):
        is_free("203.0.113.5", 30000)  # RFC 5737: nobody's


def test_a_port_for_the_privileged_is_not_called_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("socket.socket.bind", forbidden)
    with pytest.raises(PermissionError, match="ports below 1024 are for privileged processes"):
        is_free(LOOPBACK, 80)


def test_a_free_port_can_be_listened_on() -> None:
    with socket.create_server((LOOPBACK, free_port())):
        pass


def test_an_address_for_all_is_reached_by_loopback() -> None:
    assert reached_from_here("0.0.0.0") == "127.0.0.1"
    assert reached_from_here("::") == "::1"
    assert reached_from_here("10.0.0.7") == "10.0.0.7"
