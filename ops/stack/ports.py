"""TCP addresses: a free port, whether one is taken, how one reaches a server from here."""

from __future__ import annotations

import errno
import socket

from jobs.errors import SettingsError

LOOPBACK = "127.0.0.1"

_WHY = {
    errno.EADDRNOTAVAIL: "this machine has no such address",
    errno.EACCES: "ports below 1024 are for privileged processes: choose a higher one",
}


def free_port(*spoken_for: int) -> int:
    """A port of the loopback address that nobody listens on now, and none of those given."""
    while True:
        with socket.socket() as listener:
            listener.bind((LOOPBACK, 0))
            port = int(listener.getsockname()[1])
        if port not in spoken_for:
            return port


def is_free(host: str, port: int) -> bool:
    """True when a server could listen there, False when another one does.

    Raises:
        OSError: no server could; `strerror` says why.
    """
    family, kind, protocol, _, address = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    with socket.socket(family, kind, protocol) as listener:
        # As servers do: a port in TIME_WAIT is free.
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                return False
            raise OSError(error.errno, _WHY.get(error.errno or 0, error.strerror)) from None
    return True


def check_port(host: str, port: int, option: str) -> None:
    """Hold a server's address against what is there; `option` is what would choose another port.

    Raises:
        SettingsError: nobody can listen there, or somebody does.
    """
    try:
        free = is_free(host, port)
    except OSError as error:
        raise SettingsError(f"cannot listen on {host}: {error.strerror}") from None
    if not free:
        raise SettingsError(f"port {port} on {host} is taken: choose another with {option}")


def reached_from_here(host: str) -> str:
    """The address by which this machine reaches a server that listens on `host`."""
    return {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)  # noqa: S104 - not bound to
