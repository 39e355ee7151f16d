"""Where a rank's checkpoints come from: everything beside the request that decides a video's bytes."""

from __future__ import annotations

import hashlib
import importlib.metadata
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache

from pipeline.attention import Attention
from pipeline.gang.manifest import Origin
from pipeline.layout import Layout
from pipeline.options import EngineOptions
from pipeline.parallel.ranks import Ranks

_WHOLE_BYTES = 1 << 20
"""Files up to this size are read whole, of larger ones `_SAMPLES` blocks."""
_SAMPLES = 64
_BLOCK_BYTES = 4096


def origin_of(
    options: EngineOptions, layout: Layout, ranks: Ranks, attention: Attention, dtype: str
) -> Origin:
    """This engine's. `dtype`: the transformer's."""
    return Origin(
        # Only rank 0 compares, and so only it need read the model's files once more.
        model=_digest(_directory(options.model_path)) if ranks.rank == 0 else "",
        platform=ranks.platform.kind,
        layout={name: getattr(layout, name) for name in ("cfg", "ring", "ulysses", "tp")},
        dtype=dtype,
        attention_backend="auto" if attention.backend is None else attention.backend.value,
        compiled=options.enable_torch_compile or options.use_ipex,
        step_cache=options.step_cache,
        versions={
            "torch": str(torch.__version__),
            **{name: importlib.metadata.version(name) for name in ("diffusers", "rushes")},
        },
    )


def _directory(model_path: str) -> Path:
    """Where the model's files lie; a hub id's are in the hub's cache, by commit."""
    if Path(model_path).is_dir():
        return Path(model_path)
    return Path(str(try_to_load_from_cache(model_path, "model_index.json"))).parent


def _digest(directory: Path) -> str:
    """Of every file's name, size and content; a large file's content is sampled over its length.

    Reading 28 GB whole at each start would cost more than checkpoints save; another training changes
    every block.
    """
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(directory)} {size}\n".encode())
        with path.open("rb") as file:
            if size <= _WHOLE_BYTES:
                digest.update(file.read())
                continue
            for index in range(_SAMPLES):
                file.seek((size - _BLOCK_BYTES) * index // (_SAMPLES - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()
