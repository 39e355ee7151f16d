"""One process of the stack, started again when it dies, as a supervisor would."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ops.stack.child import bound

AGAIN_S = 0.5
"""From a part's death to its next start."""


class Part:
    """A command to keep alive. All methods but `keep` may be called from any thread."""

    def __init__(
        self, name: str, command: Sequence[str], *, env: Mapping[str, str], folder: Path
    ) -> None:
        """`folder`: where it runs. Its output goes to `<name>.log` under `env["CHAOS_LOGS"]`."""
        self.name = name
        self.env = dict(env)
        self.starts = 0
        self._command = list(command)
        self._folder = folder
        self._log = Path(env["CHAOS_LOGS"]) / f"{name}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._due = 0.0
        self._wanted = True

    @property
    def pid(self) -> int:
        """Of the process that is it now, or was last; 0 before the first start."""
        return self._process.pid if self._process else 0

    @property
    def log(self) -> str:
        """Everything that it has said."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def keep(self) -> None:
        """Start it when it is due. Always called on one thread, whose end ends the process too."""
        if self._process is not None and self._process.poll() is None:
            return
        if self._process is not None:
            with suppress(ProcessLookupError):  # what it leaves behind may hold its port
                os.killpg(self._process.pid, signal.SIGKILL)
        if not self._due:
            self._due = time.monotonic() + (AGAIN_S if self.starts else 0.0)
        if self._wanted and time.monotonic() >= self._due:
            self._start()

    def signal(self, number: signal.Signals) -> None:
        """To the process alone; one that is gone hears nothing."""
        with suppress(ProcessLookupError):
            if self._process is not None and self._process.poll() is None:
                os.kill(self._process.pid, number)

    def leave(self, timeout_s: float) -> bool:
        """SIGTERM for good. False: it was not gone in time."""
        self._wanted = False
        self.signal(signal.SIGTERM)
        return self._gone(timeout_s)

    def end(self) -> None:
        """SIGKILL for good, with all of its process group."""
        self._wanted = False
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._gone(10.0)

    def _gone(self, timeout_s: float) -> bool:
        if self._process is None:
            return True
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _start(self) -> None:
        self._due = 0.0
        self.starts += 1
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                bound(self._command),
                env=self.env,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
