"""What makes a rank die with its parent: a lifeline pipe, and the kernel's parent-death signal.

A gang outlives the SIGKILL of its parent unless each rank watches for it. The pipe is the sure belt:
its write end is in the parent alone, so its EOF means that the parent is gone, however it went. The
signal is the second one, for a rank that cannot run Python at that moment.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import threading

EXIT_ORPHANED = 9
"""The lifeline broke: nobody is left to tell."""

_PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def fasten(lifeline: int) -> None:
    """End this process at once when the parent is gone; ignore Ctrl-C, which is the parent's to hear.

    Args:
        lifeline: read end of a pipe to which nobody writes and whose write end the parent holds.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    threading.Thread(target=_watch, args=(lifeline,), name="lifeline", daemon=True).start()


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(EXIT_ORPHANED)
