import socket

from ops.stack.ports import LOOPBACK, free_port, is_free


def test_a_port_in_use_is_not_free() -> None:
    with socket.socket() as listener:
        listener.bind((LOOPBACK, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert not is_free(LOOPBACK, port)
        assert not is_free("0.0.0.0", port)
    assert is_free(LOOPBACK, port)


def test_a_free_port_can_be_listened_on() -> None:
    with socket.create_server((LOOPBACK, free_port())):
        pass
