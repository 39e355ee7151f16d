"""Logs: one readable line an event, nothing below the level, no local variables in tracebacks."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import structlog
from jobs.log import configure
configure("info")
log = structlog.get_logger("api")
structlog.contextvars.bind_contextvars(request_id="req_1")
log.debug("below the level")
log.info("job accepted", job_id="video_1", text="two\\nlines")
password = "hidden" + "-secret"
try:
    raise RuntimeError("boom")
except RuntimeError as error:
    log.error("unexpected error", exc_info=error)
"""


def test_lines_are_readable_and_tell_no_locals() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM], capture_output=True, text=True, check=True
    )
    first, *traceback = done.stdout.splitlines()
    assert "job accepted" in first
    assert "job_id=video_1" in first
    assert "request_id=req_1" in first
    assert "'two\\nlines'" in first, "a value cannot forge a line"
    assert "below the level" not in done.stdout
    assert "RuntimeError: boom" in traceback[-1]
    assert "hidden-secret" not in done.stdout
    assert done.stderr == ""
