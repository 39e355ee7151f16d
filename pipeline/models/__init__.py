"""Model families, found by the pipeline class that a model's directory names.

A family is a module here whose name begins the class's (`wan`: WanPipeline), with `PIPELINES`, the
classes that it knows, and `load`. Nothing else lists the families.
"""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import Any

from diffusers import DiffusionPipeline, ModelMixin
from huggingface_hub.errors import (
    EntryNotFoundError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
)

from pipeline.layout import Layout
from pipeline.models.model import Load, Model
from pipeline.options import EngineOptions
from pipeline.outline import Outline
from pipeline.parallel.ranks import Ranks

__all__ = ["Model", "load", "outline"]

_SHARED = ("card", "model")


def load(options: EngineOptions, layout: Layout, ranks: Ranks) -> Model:
    """Load the model at `options.model_path`, a Diffusers directory or a hub id.

    Raises:
        ValueError: no such model, no family for it, or what the family refuses.
        OSError: the hub does not answer.
    """
    path = options.model_path
    name = str(_index(path).get("_class_name"))
    for family in _families():
        if name.lower().startswith(family) and name in (module := _import(family)).PIPELINES:
            load_family: Load = module.load
            return load_family(options, layout, ranks)
    known = ", ".join(pipeline for family in _families() for pipeline in _import(family).PIPELINES)
    raise ValueError(f"{path} is a {name}; families that can be served: {known}")


def outline(path: str) -> Outline:
    """What a layout must know of the model, from its configs.

    Raises:
        ValueError: no such model.
        OSError: the hub does not answer.
    """
    index = _index(path)
    if Path(path).is_dir():
        return Outline.read(path)
    return Outline.of(index, ModelMixin.load_config(path, subfolder="transformer"), card={})


def _index(path: str) -> dict[str, Any]:
    """The model's `model_index.json`: pipeline class, components."""
    if Path(path).is_absolute() and not Path(path, "model_index.json").is_file():
        raise ValueError(f"{path} is no Diffusers directory: it has no model_index.json")
    if not Path(path).is_dir() and path.count("/") != 1:
        raise ValueError(
            f"there is no directory {path} here, and no hub id is like that: owner/name"
        )
    try:
        index: dict[str, Any] = DiffusionPipeline.load_config(path)
    except OSError as error:
        if Path(path).is_dir():
            raise ValueError(f"cannot read model_index.json of {path}: {error}") from error
        here = f"there is no directory {path} here, and"
        if _is_missing(error.__context__):
            raise ValueError(f"{here} the hub has no such model: {error}") from error
        raise OSError(f"{here} the hub does not answer: {error.__context__ or error}") from error
    if Path(path).is_dir() and (missing := _missing_parts(Path(path), index)):
        raise ValueError(
            f"{path} has no {', '.join(missing)}, which its model_index.json names as parts"
        )
    return index


def _missing_parts(directory: Path, index: dict[str, Any]) -> list[str]:
    return [
        name
        for name, value in index.items()
        if isinstance(value, list | tuple)
        and None not in value
        and not name.startswith("_")
        and not (directory / name).is_dir()
    ]


def _is_missing(error: BaseException | None) -> bool:
    """Whether the hub said that there is no such thing; it may also not have said anything."""
    if isinstance(error, LocalEntryNotFoundError):
        return False
    return isinstance(error, RepositoryNotFoundError | EntryNotFoundError | ValueError)


def _families() -> list[str]:
    """Modules of this package that a pipeline class may begin with; a helper's name has a `_`."""
    return [
        module.name
        for module in pkgutil.iter_modules(__path__)
        if module.name not in _SHARED and "_" not in module.name
    ]


def _import(family: str) -> ModuleType:
    return importlib.import_module(f"{__name__}.{family}")
