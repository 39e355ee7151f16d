"""What a layout must know of a model before it is loaded: its attention heads. Torch-free."""

from __future__ import annotations

import json
from pathlib import Path


def heads_of(model_path: str) -> int | None:
    """Attention heads of the transformer of a Diffusers directory; None: it does not say."""
    try:
        config = json.loads(Path(model_path, "transformer", "config.json").read_text())
    except (OSError, ValueError):
        return None
    heads = config.get("num_attention_heads") if isinstance(config, dict) else None
    return heads if isinstance(heads, int) and heads > 0 else None
