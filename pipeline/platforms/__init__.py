"""One small module a device kind behind one interface; the first that is there is the default."""

from __future__ import annotations

from pipeline.options import Device
from pipeline.platforms.cpu import Cpu
from pipeline.platforms.cuda import Cuda
from pipeline.platforms.platform import Platform
from pipeline.platforms.xpu import Xpu

__all__ = ["Platform", "find"]


def find(kind: Device | None = None) -> Platform:
    """The platform asked for, or else the first of xpu, cuda, cpu that is there.

    Raises:
        ValueError: the kind asked for is not there.
    """
    for platform in (Xpu(), Cuda(), Cpu()):
        if kind in (None, platform.kind) and platform.count():
            return platform
    raise ValueError(f"no {kind} device is there")
