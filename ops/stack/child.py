"""Becomes another program that dies with its parent: `python -m ops.stack.child PARENT COMMAND...`.

A small step between fork and exec, since `preexec_fn` is unsafe in a process with threads. The
signal follows the thread that started the child: start children from a thread as long-lived as the
process. PARENT is its pid; when it is gone already, nothing is started.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Sequence

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def bound(command: Sequence[str]) -> list[str]:
    """The command line that runs `command` as a child bound to this process."""
    return [sys.executable, "-m", "ops.stack.child", str(os.getpid()), *command]


def _become(parent: int, command: Sequence[str]) -> None:
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the signal was set
        sys.exit(1)
    os.execvp(command[0], list(command))  # noqa: S606 - no shell is the point


if __name__ == "__main__":
    _become(int(sys.argv[1]), sys.argv[2:])
