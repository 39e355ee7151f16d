"""A `rushes serve` of one's own: what the demo and the bench talk to over HTTP, like any client."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from ops.stack.child import bound
from ops.stack.ports import LOOPBACK, free_port

STOP_S = 17.0
"""`serve` needs 15 s at most."""
KEPT = ("RUSHES_LOG_LEVEL",)


class LocalError(Exception):
    """The service did not do what it should; the logs say why."""


class LocalService:
    """Runs `rushes serve` on a home and a free port while open, and takes it down with itself."""

    def __init__(
        self, home: Path, arguments: Sequence[str] = (), env: Mapping[str, str] | None = None
    ) -> None:
        """`arguments` and `env` are added to the command line and the environment of `serve`.

        Other `RUSHES_*` of ours do not reach it: it shall touch nobody's Redis or bucket.
        """
        self._home = home
        self._env = {
            k: v for k, v in os.environ.items() if not k.startswith("RUSHES_") or k in KEPT
        }
        self._env |= {"RUSHES_HOME": str(home), **(env or {})}
        self.port = free_port()
        self._command = [
            *(sys.executable, "-m", "ops.cli", "serve", "--port", str(self.port)),
            *arguments,
        ]
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.output = home / "serve.out"

    def __enter__(self) -> Self:
        self._home.mkdir(parents=True, exist_ok=True)
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                bound(self._command),
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for us to hear
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop everything; an error of ours or of HTTP leaves with the service's last lines."""
        self.stop()
        if isinstance(error, (LocalError, httpx.HTTPError)):
            raise LocalError(f"{error}\n{self.tail()}") from error

    def stop(self) -> int:
        """Stop in order, or by force when that takes too long; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()  # what it started dies with it
            return self.process.wait()

    def wait_ready(self, timeout_s: float) -> None:
        """Return once a gang is ready.

        Raises:
            LocalError: `serve` ended, its gang cannot start, or it took longer.
        """
        deadline = time.monotonic() + timeout_s
        with httpx.Client(base_url=self.url, timeout=5.0) as client:
            while time.monotonic() < deadline:
                if self.process.poll() is not None:
                    raise LocalError(f"rushes serve ended with {self.process.returncode}")
                try:
                    health = client.get("/health")
                except httpx.TransportError:
                    pass  # not listening yet
                else:
                    if health.status_code == httpx.codes.OK:
                        return
                    if any(gang["state"] == "unhealthy" for gang in health.json().get("gangs", ())):
                        raise LocalError("the gang cannot start")
                time.sleep(0.1)
        raise LocalError(f"no gang was ready within {timeout_s:g} s")

    def tail(self, lines: int = 30) -> str:
        """The end of what the service said."""
        return "\n".join(self.output.read_text(errors="replace").splitlines()[-lines:])
