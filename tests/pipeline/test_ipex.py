"""Intel's extension, played by a labelled fake: it exists for torch 2.8 only.

`RUSHES_TEST_IPEX` names the Python of an environment where the real one is tried too: torch 2.8, IPEX
2.8, pydantic, and no transformers 5, beside which it does not load.
"""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from pipeline.ipex import optimize
from pipeline.options import EngineOptions

ASKED = EngineOptions(model_path="m", use_ipex=True)


class Transformer(nn.Linear):
    dtype = torch.bfloat16


@pytest.fixture
def pipe() -> Any:
    return SimpleNamespace(
        components={
            "transformer": Transformer(1, 1),
            "transformer_2": None,
            "vae": nn.Linear(1, 1),
        }
    )


def install(monkeypatch: pytest.MonkeyPatch, version: str) -> list[tuple[Any, Any]]:
    """A fake IPEX of that version; what it was asked to optimize, in training mode or not."""
    asked: list[tuple[Any, Any]] = []
    fake: Any = ModuleType("intel_extension_for_pytorch")

    def optimize(module: nn.Module, *, dtype: torch.dtype, inplace: bool, **folding: bool) -> None:
        assert folding == {"conv_bn_folding": False, "linear_bn_folding": False}
        asked.append((module, (module.training, dtype, inplace)))

    fake.optimize = optimize
    monkeypatch.setitem(sys.modules, fake.__name__, fake)
    monkeypatch.setattr(importlib.metadata, "version", lambda _: version)
    return asked


def test_it_optimizes_transformers_in_place(monkeypatch: pytest.MonkeyPatch, pipe: Any) -> None:
    asked = install(monkeypatch, f"{torch.__version__.rpartition('.')[0]}.10+xpu")
    optimize(pipe, ASKED)
    assert asked == [(pipe.components["transformer"], (False, torch.bfloat16, True))]


def test_it_is_not_loaded_unless_wanted(monkeypatch: pytest.MonkeyPatch, pipe: Any) -> None:
    monkeypatch.setitem(sys.modules, "intel_extension_for_pytorch", None)  # loading it would fail
    optimize(pipe, EngineOptions(model_path="m"))


def test_beside_another_torch_it_is_refused_unloaded(
    monkeypatch: pytest.MonkeyPatch, pipe: Any
) -> None:
    install(monkeypatch, "1.2.3")
    monkeypatch.setitem(sys.modules, "intel_extension_for_pytorch", None)
    with pytest.raises(ValueError, match=r"use_ipex: .* 1\.2\.3 is not made for torch"):
        optimize(pipe, ASKED)


def test_where_it_is_not_installed_it_is_refused(pipe: Any) -> None:
    with pytest.raises(ValueError, match="use_ipex: intel_extension_for_pytorch is not installed"):
        optimize(pipe, ASKED)


def test_where_it_does_not_load_it_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, pipe: Any
) -> None:
    """As 2.8.0 does beside transformers 5."""
    install(monkeypatch, torch.__version__)
    monkeypatch.delitem(sys.modules, "intel_extension_for_pytorch")
    (tmp_path / "intel_extension_for_pytorch.py").write_text("MoeModelOutputWithPast")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match="cannot be loaded: name 'MoeModelOutputWithPast' is not"):
        optimize(pipe, ASKED)


REAL = """
import torch
from types import SimpleNamespace
from torch import nn
from pipeline.ipex import optimize
from pipeline.options import EngineOptions

class Transformer(nn.Module):
    dtype = torch.bfloat16

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv3d(16, 128, (1, 2, 2), stride=(1, 2, 2))
        self.ffn = nn.Sequential(nn.Linear(128, 256), nn.GELU(), nn.Linear(256, 128))

    def forward(self, latent):
        return self.ffn(self.patches(latent).flatten(2).transpose(1, 2))

torch.manual_seed(0)
model, latent = Transformer().to(torch.bfloat16).eval(), torch.randn(1, 16, 3, 8, 8).bfloat16()
with torch.no_grad():
    before = model(latent)
    options = EngineOptions(model_path="m", use_ipex=True)
    optimize(SimpleNamespace(components={"transformer": model}), options)
    apart = float((model(latent) - before).abs().max() / before.abs().max())
print(type(model.ffn[0]).__name__, apart < 0.02)
"""


@pytest.mark.skipif("RUSHES_TEST_IPEX" not in os.environ, reason="no environment with IPEX")
def test_the_real_one_optimizes_what_it_is_given() -> None:
    done = subprocess.run(
        [os.environ["RUSHES_TEST_IPEX"], "-W", "ignore", "-c", REAL],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "_IPEXLinear True"
