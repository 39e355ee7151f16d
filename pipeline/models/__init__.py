"""Model families, found by the pipeline class that a model's directory names.

A family is a module here whose name begins the class's (`wan`: WanPipeline), with `PIPELINES`, the
classes that it knows, and `load`. Nothing else lists the families.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType

from diffusers import DiffusionPipeline

from pipeline.layout import Layout
from pipeline.models.model import Load, Model
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks

__all__ = ["Model", "load"]

_SHARED = ("card", "model")


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
    name = str(index.get("_class_name"))
    for family in _families():
        if name.lower().startswith(family) and name in (module := _import(family)).PIPELINES:
            load_family: Load = module.load
            return load_family(options, layout, ranks)
    known = ", ".join(pipeline for family in _families() for pipeline in _import(family).PIPELINES)
    raise ValueError(f"{path} is a {name}; families that can be served: {known}")


def _families() -> list[str]:
    """Modules of this package that a pipeline class may begin with; a helper's name has a `_`."""
    return [
        module.name
        for module in pkgutil.iter_modules(__path__)
        if module.name not in _SHARED and "_" not in module.name
    ]


def _import(family: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{family}")
