"""NVIDIA GPUs over NCCL."""

from __future__ import annotations

import torch
from typing_extensions import override

from pipeline.platforms.accelerator import Accelerator
from pipeline.platforms.platform import Platform

_HOPPER = (9, 0)


class Cuda(Accelerator):
    """CUDA devices."""

    kind = "cuda"
    backend = "nccl"
    visible_variable = "CUDA_VISIBLE_DEVICES"
    no_memory_words = (
        *Platform.no_memory_words,
        "CUDA error: out of memory",
        "CUBLAS_STATUS_ALLOC_FAILED",
        "CUDNN_STATUS_ALLOC_FAILED",
        "DEVICE_ALLOCATION_FAILED",  # cuDNN 9's
        # A convolution that found no memory for the workspace of any of cuDNN's engines.
        "unable to find an engine to execute this computation",
    )
    lse_operators = (
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
    )

    @override
    def attention_problem(self, backend: str, device: torch.device) -> str:
        capability = torch.cuda.get_device_capability(device)
        if "flash" in backend and "3" in backend and capability != _HOPPER:
            return f"FlashAttention 3 is for Hopper (9.0), {self.name(device)} is {capability}"
        if backend in ("_native_npu", "_native_xla", "aiter_fa2_hub"):
            return "it is not made for cuda"
        return ""
