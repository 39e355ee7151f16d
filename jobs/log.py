"""Structured logs as readable lines on stdout, the same in every role."""

from __future__ import annotations

import logging
import sys

import structlog

from jobs.settings import LogLevel


def configure(level: LogLevel) -> None:
    """Set structlog up for this process: time, level, event, key=value; colours on a terminal only.

    Tracebacks are plain: structlog's rich ones print local variables, and with them secrets.
    """
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%Y-%m-%d %H:%M:%S", utc=False),
            structlog.dev.ConsoleRenderer(
                colors=sys.stdout.isatty(),
                pad_event_to=0,
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelName(level.upper())),
        logger_factory=structlog.WriteLoggerFactory(sys.stdout),
        cache_logger_on_first_use=True,
    )
