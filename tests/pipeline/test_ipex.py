"""Intel's extension, played by a labelled fake: it exists for torch 2.8 only."""

from __future__ import annotations

import importlib.metadata
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
    fake.optimize = lambda module, dtype, inplace: asked.append(
        (module, (module.training, dtype, inplace))
    )
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
