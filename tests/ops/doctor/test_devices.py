from typing import Any

import pytest

from ops.doctor.devices import describe
from ops.doctor.variables import variables


def details(*names: str, backends: tuple[str, ...] = ("xccl", "gloo")) -> dict[str, Any]:
    """What a machine with these XPUs would tell; a fake."""
    return {
        "torch": "2.13.0+xpu",
        "build": "XPU 20250302",
        "device": "xpu",
        "devices": [{"name": name, "memory_bytes": 24 * 2**30} for name in names],
        "backend": "xccl",
        "backends": list(backends),
        "extensions": {},
        "attention": {"sdpa": "", "fa3": "it is not made for xpu"},
        "ring": {"_flash": ""},
    }


@pytest.mark.parametrize(
    ("name", "environ", "family", "ids"),
    [
        ("Intel(R) Arc(TM) Pro B60 Graphics", {}, "Arc", "cards"),
        ("Intel(R) Data Center GPU Max 1550", {}, "Data Center GPU Max", "tiles"),
        (
            "Intel(R) Data Center GPU Max 1550",
            {"ZE_FLAT_DEVICE_HIERARCHY": "COMPOSITE", "ZE_AFFINITY_MASK": "0,1"},
            "Data Center GPU Max",
            "cards",
        ),
    ],
)
def test_an_xpu_has_a_family_and_a_mask_whose_ids_mean_something(
    name: str, environ: dict[str, str], family: str, ids: str
) -> None:
    said = [one.what for one in describe(details(name, name), environ)]
    assert f"xpu:1 {name}, 24 GiB, {family}" in said
    (mask,) = (what for what in said if "ids mean" in what)
    assert f"ids mean {ids} " in mask


def test_a_ring_has_an_operator_or_is_warned_of() -> None:
    tried = {"_cudnn": "wrong values", "_flash": ""}
    one = [*describe({**details("Arc"), "ring": tried}, {})]
    assert ("ok", "ring: aten._flash") in [(said.state, said.what) for said in one]
    (none,) = (
        said
        for said in describe({**details("Arc"), "ring": {"_cudnn": "wrong values"}}, {})
        if said.what.startswith("ring")
    )
    assert (none.state, none.what) == ("warning", "ring: not here (aten._cudnn: wrong values)")
    assert none.fix == "--ulysses-degree in place of --ring-degree"


def test_a_backend_that_torch_lacks_is_a_problem_for_several() -> None:
    several = describe(details("Arc", "Arc", backends=("gloo",)), {})
    assert [(one.area, one.state) for one in several if one.state != "ok"] == [
        ("backend", "problem")
    ]
    one_device = describe(details("Arc", backends=("gloo",)), {})
    assert [one.state for one in one_device if one.area == "backend"] == ["warning"]


def test_variables_are_told_with_what_becomes_of_them() -> None:
    said = variables(
        {
            "CCL_LOG_LEVEL": "info",
            "CCL_ATL_TRANSPORT": "mpi",
            "CCL_UNHEARD_OF": "1",
            "IPEX_VERBOSE": "1",
            "PATH": "/bin",
        }
    )
    assert [(one.state, one.what) for one in said] == [
        ("warning", "CCL_ATL_TRANSPORT=mpi: ranks are not started by mpirun"),
        ("ok", "CCL_LOG_LEVEL=info: oneCCL reads it in every rank"),
        ("ok", "CCL_UNHEARD_OF=1: reaches every rank, not known to this build"),
        ("ok", "IPEX_VERBOSE=1: IPEX reads it in every rank, where it is installed"),
    ]
