"""Problems that users meet, how their messages are recognised, and what mends them.

docs/TROUBLESHOOTING.md is made from these; `rushes doctor --log FILE` looks for them in a log.
"""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Problem:
    """One problem. `symptoms` are regular expressions, found anywhere in a line whatever the case."""

    name: str
    symptoms: tuple[str, ...]
    cause: str
    fix: tuple[str, ...]
    """Commands and what they do, one a line."""


PROBLEMS = (
    Problem(
        "CCL not available",
        (
            r"oneCCL not found",
            r"no module named '?(oneccl_bindings_for_pytorch|torch_ccl)",
            r"this torch has no xccl",
            r"no backend type associated with device type xpu",
            r"unknown c10d backend type xccl|xccl.*not (built in|available)",
        ),
        "Ranks on XPU exchange tensors by oneCCL. PyTorch has it built in (`xccl`) since 2.8, in its "
        "builds for XPU only.",
        (
            "make setup TORCH=xpu  # a build of torch for XPU; nothing else is needed",
            "pip install -e '.[pipeline,xpu]'  # torch 2.8 with IPEX and oneccl_bind_pt, see XPU.md",
            "export TORCH_DISTRIBUTED_BACKEND=gloo  # until then: through CPU memory, much slower",
        ),
    ),
    Problem(
        "The backend is not for this device",
        (r"TORCH_DISTRIBUTED_BACKEND=\S+ is not for",),
        "TORCH_DISTRIBUTED_BACKEND names what carries tensors between devices of another kind.",
        (
            "unset TORCH_DISTRIBUTED_BACKEND  # the device's own: xccl, nccl or gloo",
            "rushes serve ... --device xpu  # or cuda: where another kind was found than was meant",
        ),
    ),
    Problem(
        "No XPU devices found",
        (
            r"(no )?xpu devices? (is there|not found|found)\b",
            r"rank \d+ of \d+ has no xpu device",
            r"num_gpus \d+, but \d+ xpu devices",
            r"zeInit.*fail|ZE_RESULT_ERROR_UNINITIALIZED|no device of requested type",
        ),
        "The driver is missing, the user may not open the device, torch is not a build for XPU, or "
        "ZE_AFFINITY_MASK hides the cards.",
        (
            "xpu-smi discovery  # empty: install Intel's driver, https://dgpu-docs.intel.com/",
            "sudo usermod -aG render $USER  # then log in again",
            "make setup TORCH=xpu  # a build of torch for XPU",
            "unset ZE_AFFINITY_MASK  # or ids that exist: ZE_AFFINITY_MASK=0,1,2,3",
        ),
    ),
    Problem(
        "Distributed initialization failed",
        (
            r"failed to initialize distributed",
            r"cannot meet at MASTER_ADDR",
            r"address already in use|EADDRINUSE",
            r"timed out (after|waiting).*(store|rank|client)|(store|rendezvous).*timed? ?out",
            r"the gang was not ready within",
        ),
        "The ranks did not find each other: a port that is taken, a backend that does not start, or "
        "a model that takes long to load.",
        (
            "unset MASTER_ADDR MASTER_PORT  # ranks of one host meet in a file and need no port",
            "ss -tlnp | grep 29500  # who has the port",
            "export TORCH_DISTRIBUTED_BACKEND=gloo  # does it start then? The backend is at fault",
            "export TORCH_DISTRIBUTED_TIMEOUT=1800  # seconds that an exchange may take",
        ),
    ),
    Problem(
        "oneCCL finds no transport",
        (
            r"failed to initialize ATL",
            r"fi_getinfo",
            r"CCL_ATL_TRANSPORT=mpi needs ranks",
            r"ofi.*no (usable )?provider",
        ),
        "Ranks are plain processes, not started by mpirun: the transport is `ofi` (libfabric), whose "
        "providers oneCCL has to find.",
        (
            "export CCL_ATL_TRANSPORT=ofi  # or leave it unset; mpi needs mpirun",
            "export FI_PROVIDER_PATH=$CONDA_PREFIX/opt/mpi/libfabric/lib/prov  # where they lie",
        ),
    ),
    Problem(
        "Out of memory",
        (
            r"out of memory|OutOfMemoryError|out_of_memory",
            r"OUT_OF_(DEVICE|HOST)_MEMORY|can't allocate memory",
        ),
        "Weights and activations do not fit the device.",
        (
            "rushes serve ... --text-encoder-cpu-offload --vae-cpu-offload  # costs transfers",
            "rushes serve ... --dit-cpu-offload --pin-cpu-memory  # the transformer block by block",
            "rushes serve ... --use-fsdp-inference  # weights shared out over the gang",
            "rushes generate ... --num-frames 41  # shorter, or a smaller --height and --width",
            "rushes doctor --model-path ... --num-gpus N  # proposes a layout that fits",
        ),
    ),
    Problem(
        "The result is not finite",
        (r"(latent is|frames are) not finite|not_finite",),
        "The model computed NaN or infinity: a file of weights is damaged, or the dtype's range is too "
        "small. The same request does it again, so it is not tried again.",
        (
            "rushes serve ... --dtype bfloat16  # float16 overflows where bfloat16 and float32 do not",
            "rushes generate ... --dtype float32 --num-inference-steps 1  # still? Fetch the weights anew",
        ),
    ),
    Problem(
        "An exchange hangs",
        (
            r"watchdog caught collective|collective operation timeout",
            r"(send|recv|all_\w+|broadcast|reduce_scatter).*(no answer|timed out)",
        ),
        "A rank died, or the backend is stuck. On torch 2.8 for XPU send and receive hung without "
        "the direct mode, which is set here where unset.",
        (
            "export CCL_SEND=direct CCL_RECV=direct",
            "export CCL_ZE_IPC_EXCHANGE=sockets  # in containers without the ptrace capability",
            "export CCL_LOG_LEVEL=debug TORCH_DISTRIBUTED_DEBUG=DETAIL  # who waits for whom",
        ),
    ),
    Problem(
        "Slower than expected",
        (
            r"passes through CPU memory",
            r"gloo_staged",
            r"is slow(er)? than expected",
        ),
        "A fallback backend, an operator that is not the fastest, or weights that travel.",
        (
            "curl localhost:30000/health  # backend and fallbacks of each gang",
            "unset TORCH_DISTRIBUTED_BACKEND  # the device's own backend",
            "export CCL_LOG_LEVEL=info IPEX_VERBOSE=1  # what they chose",
            "rushes serve ... --enable-torch-compile --pin-cpu-memory",
            "rushes serve ... --attention-backend fa3  # on Hopper GPUs; elsewhere sdpa, the default",
            "rushes generate ... --profile traces  # where the time goes: open in ui.perfetto.dev",
        ),
    ),
    Problem(
        "The attention backend cannot serve",
        (
            r"attention_backend \S+ (cannot serve here|is not known)",
            r"no module named '?flash_attn",
        ),
        "An operator that is made for another device, or whose package is not installed.",
        ("rushes serve ... --attention-backend sdpa  # torch's own, the default",),
    ),
)


def recognise(text: str) -> list[Problem]:
    """The problems whose symptoms are in `text`, in the order of the list."""
    return [
        problem
        for problem in PROBLEMS
        if any(re.search(symptom, text, re.IGNORECASE) for symptom in problem.symptoms)
    ]


def fix_for(text: str, otherwise: str = "") -> str:
    """How to mend what `text` tells of, one line a step."""
    known = recognise(text)
    return "\n".join(known[0].fix) if known else otherwise
