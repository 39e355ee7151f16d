"""Environment variables that reach the ranks: which are set, and what becomes of each here."""

from __future__ import annotations

from collections.abc import Mapping

from ops.doctor.finding import Finding, ok, warning

_ONECCL = "oneCCL reads it in every rank"

KNOWN = {
    "ZE_AFFINITY_MASK": "the pool of XPUs; gangs get disjoint parts of it",
    "ZE_FLAT_DEVICE_HIERARCHY": "whether ids of the mask mean cards or tiles",
    "CUDA_VISIBLE_DEVICES": "the pool of GPUs; gangs get disjoint parts of it",
    "TORCH_DISTRIBUTED_BACKEND": "what carries tensors between ranks",
    "TORCH_DISTRIBUTED_TIMEOUT": "seconds that an exchange may take",
    "TORCH_DISTRIBUTED_DEBUG": "torch checks exchanges in every rank",
    "MASTER_ADDR": "where the ranks of one gang meet; refused with dp_size > 1",
    "MASTER_PORT": "where the ranks of one gang meet; refused with dp_size > 1",
    "CCL_PROCESS_LAUNCHER": "set to none in every rank where unset",
    "CCL_LOCAL_SIZE": "set in every rank where unset",
    "CCL_LOCAL_RANK": "set in every rank where unset",
    "CCL_ATL_TRANSPORT": "set to ofi in every rank where unset",
    "CCL_SEND": "set to direct in every rank where unset",
    "CCL_RECV": "set to direct in every rank where unset",
    "CCL_LOG_LEVEL": _ONECCL,
    "CCL_PRIORITY": _ONECCL,
    "CCL_FUSION": _ONECCL,
    "CCL_FUSION_THRESHOLD": _ONECCL,
    "CCL_FUSION_COUNT_THRESHOLD": _ONECCL,
    "CCL_ZE_IPC_EXCHANGE": _ONECCL,
    "CCL_WORKER_AFFINITY": _ONECCL,
    "CCL_WORKER_COUNT": _ONECCL,
    "FI_PROVIDER": "libfabric reads it in every rank",
    "FI_PROVIDER_PATH": "libfabric reads it in every rank",
    "IPEX_VERBOSE": "IPEX reads it in every rank, where it is installed",
    "GLOO_SOCKET_IFNAME": "lo where unset: a gang lives on one host",
    "OMP_NUM_THREADS": "threads of each rank; unset, ranks share the cores",
    "OMP_WAIT_POLICY": "PASSIVE where unset",
    "HF_HOME": "where models from the hub are kept",
    "HF_HUB_OFFLINE": "nothing is fetched from the hub",
}
_PREFIXES = ("ZE_", "TORCH_", "CCL_", "FI_", "IPEX_", "NCCL_", "GLOO_", "SYCL_", "I_MPI_")


def variables(environ: Mapping[str, str]) -> list[Finding]:
    """What is said of those that are set."""
    found = []
    for name, value in sorted(environ.items()):
        if name == "CCL_ATL_TRANSPORT" and value == "mpi":
            found.append(
                warning(
                    "variable", f"{name}={value}: ranks are not started by mpirun", "ofi, or unset"
                )
            )
        elif name in KNOWN:
            found.append(ok("variable", f"{name}={value}: {KNOWN[name]}"))
        elif name.startswith(_PREFIXES):
            found.append(
                ok("variable", f"{name}={value}: reaches every rank, not known to this build")
            )
    return found
