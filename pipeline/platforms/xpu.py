"""Intel GPUs over oneCCL (xccl, built into torch since 2.8)."""

from __future__ import annotations

from typing_extensions import override

from pipeline.platforms.accelerator import Accelerator


class Xpu(Accelerator):
    """XPU devices; whether an id of the mask means a card or a tile is the driver's setting."""

    kind = "xpu"
    backend = "xccl"
    visible_variable = "ZE_AFFINITY_MASK"
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
