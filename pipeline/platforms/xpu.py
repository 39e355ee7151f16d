"""Intel GPUs over oneCCL (xccl, built into torch since 2.8)."""

from __future__ import annotations

import importlib
from collections.abc import Mapping

import torch.distributed as dist
from typing_extensions import override

from pipeline.platforms.accelerator import Accelerator
from pipeline.platforms.platform import Platform

_MPI_LAUNCHERS = ("PMI_RANK", "PMIX_RANK", "OMPI_COMM_WORLD_RANK", "MPI_LOCALRANKID")
"""What mpirun sets for the processes that it starts."""


class Xpu(Accelerator):
    """XPU devices; whether an id of the mask means a card or a tile is the driver's setting."""

    kind = "xpu"
    backend = "xccl"
    visible_variable = "ZE_AFFINITY_MASK"
    # Said of a kernel's own memory (pytorch#177714).
    no_memory_words = (*Platform.no_memory_words, "UR_RESULT_ERROR_OUT_OF_DEVICE_MEMORY")
    # SYCL-TLA's, for the head widths that it has (64, 96, 128, 192). oneDNN's overrideable operator,
    # SDPA's default there, leaves the log-sum-exp undefined (torch 2.13).
    lse_operators = ("_scaled_dot_product_flash_attention",)

    @override
    def rank_environment(self, rank: int, world_size: int) -> dict[str, str]:
        # oneCCL expects an MPI launcher, which a gang of plain processes is not (pytorch#158722).
        return {
            "CCL_PROCESS_LAUNCHER": "none",
            "CCL_LOCAL_SIZE": str(world_size),
            "CCL_LOCAL_RANK": str(rank),
            "CCL_ATL_TRANSPORT": "ofi",
            # Else the ring's send and receive may hang (pytorch#156782).
            "CCL_SEND": "direct",
            "CCL_RECV": "direct",
        }

    @override
    def resolve_backend(self, asked: str) -> str:
        """Also `ccl`, oneCCL's name of old: built into torch as xccl since 2.8.

        An older way in, oneccl_bindings_for_pytorch, is loaded only where xccl is missing.
        """
        if asked != "ccl":
            return super().resolve_backend(asked)
        if dist.is_backend_available(self.backend):
            return self.backend
        try:
            importlib.import_module("oneccl_bindings_for_pytorch")
        except ImportError as error:
            raise ValueError(
                "TORCH_DISTRIBUTED_BACKEND=ccl: this torch has no xccl, and "
                f"oneccl_bindings_for_pytorch cannot be loaded: {error}"
            ) from error
        return asked

    @override
    def environment_notes(self, environ: Mapping[str, str]) -> tuple[str, ...]:
        transport = environ.get("CCL_ATL_TRANSPORT", "")
        if transport == "mpi" and not any(name in environ for name in _MPI_LAUNCHERS):
            why = "needs ranks that mpirun started, which these are not"
            return (f"CCL_ATL_TRANSPORT=mpi {why}: set it to ofi, or leave it unset",)
        return ()
