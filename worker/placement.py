"""Which gang, and so which worker, gets which devices: the pipeline's own placement."""

from __future__ import annotations

from pipeline.gang.placement import gang_envs

__all__ = ["gang_envs"]
