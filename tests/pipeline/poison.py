"""Models whose weights are damaged."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import EllipsisType


def poisoned(model: Path, copy: Path, file: str, weight: str, rows: int | EllipsisType) -> Path:
    """A copy of the model with NaN in `rows` of a weight; `file` is named without its suffix."""
    import numpy as np
    from safetensors.numpy import load_file, save_file

    shutil.copytree(model, copy)
    path = copy / f"{file}.safetensors"
    weights = load_file(path)
    weights[weight][rows] = np.nan
    save_file(weights, path, {"format": "pt"})
    return copy
