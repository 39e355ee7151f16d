"""NVIDIA GPUs over NCCL."""

from __future__ import annotations

from pipeline.platforms.accelerator import Accelerator


class Cuda(Accelerator):
    """CUDA devices."""

    kind = "cuda"
    backend = "nccl"
    visible_variable = "CUDA_VISIBLE_DEVICES"
