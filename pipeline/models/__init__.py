"""Model families: one file each, found by the pipeline class that a model's directory names."""

from __future__ import annotations

import importlib
from pathlib import Path

from diffusers import DiffusionPipeline

from pipeline.layout import Layout
from pipeline.models.model import Load, Model
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks

__all__ = ["Model", "load"]

_FAMILIES = {"WanPipeline": "pipeline.models.wan"}
"""`_class_name` of model_index.json -> the module whose `load` knows it."""


def load(options: EngineOptions, layout: Layout, ranks: Ranks) -> Model:
    """Load the model at `options.model_path`, a Diffusers directory or a hub id.

    Raises:
        ValueError: no such model, no family for it, or what the family refuses.
    """
    path = options.model_path
    if Path(path).is_absolute() and not Path(path, "model_index.json").is_file():
        raise ValueError(f"{path} is no Diffusers directory: it has no model_index.json")
    try:
        index = DiffusionPipeline.load_config(path)
    except OSError as error:
        raise ValueError(f"cannot read model_index.json of {path}: {error}") from error
    name = index.get("_class_name")
    if name not in _FAMILIES:
        known = ", ".join(_FAMILIES)
        raise ValueError(f"{path} is a {name}; families that can be served: {known}")
    family: Load = importlib.import_module(_FAMILIES[name]).load
    return family(options, layout, ranks)
