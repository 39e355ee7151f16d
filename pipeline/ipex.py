"""Intel's extension for PyTorch, for installs of torch 2.8 that have it and ask for it.

Its work went into PyTorch after that, and it ended: no newer torch needs it or may load it.
"""

from __future__ import annotations

import importlib
import importlib.metadata
from typing import Any

import torch

from pipeline.options import EngineOptions

_MODULE, _NAME = "intel_extension_for_pytorch", "intel-extension-for-pytorch"


def optimize(pipe: Any, options: EngineOptions) -> None:
    """Let IPEX change the transformers of a diffusers pipeline, where the options ask for it.

    Raises:
        ValueError: it is not installed, made for another torch, or fails to load.
    """
    if not options.use_ipex:
        return
    ipex = _load()
    for name, component in pipe.components.items():
        if name.startswith("transformer") and component is not None:
            # Folding traces the model, returns the copy and leaves the one that is given unusable,
            # inplace or not (2.8.0); and there is no batch norm to fold.
            ipex.optimize(
                component.eval(),
                dtype=component.dtype,
                inplace=True,
                conv_bn_folding=False,
                linear_bn_folding=False,
            )


def _load() -> Any:
    try:
        version = importlib.metadata.version(_NAME)
    except importlib.metadata.PackageNotFoundError:
        raise ValueError(
            f"use_ipex: {_MODULE} is not installed; torch from 2.9 on does without: leave it out"
        ) from None
    # Loaded beside another torch, it ends the process.
    if version.split(".")[:2] != torch.__version__.split(".")[:2]:
        raise ValueError(
            f"use_ipex: {_MODULE} {version} is not made for torch {torch.__version__}: leave it out"
        )
    try:
        return importlib.import_module(_MODULE)
    except Exception as error:  # 2.8.0 with transformers 5: NameError
        raise ValueError(f"use_ipex: {_MODULE} {version} cannot be loaded: {error}") from error
