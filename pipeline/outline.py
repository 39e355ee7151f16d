"""What a layout must know of a model before it is loaded. Torch-free."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Outline:
    """A model as its configs tell of it, or as nothing is known of it."""

    heads: int | None = None
    """Attention heads of the transformer."""
    guided: bool = True
    """Two branches a step (classifier-free guidance), unless the model is known to take none."""

    @classmethod
    def of(
        cls, index: Mapping[str, Any], transformer: Mapping[str, Any], card: Mapping[str, Any]
    ) -> Self:
        """From `model_index.json`, the transformer's config and the directory's own `card.json`."""
        heads = transformer.get("num_attention_heads")
        guided, most = not index.get("is_distilled", False), card.get("max_guidance_scale")
        if isinstance(most, int | float):
            guided = most > 1
        return cls(
            heads=heads if isinstance(heads, int) and heads > 0 else None,
            guided=guided,
        )

    @classmethod
    def read(cls, model_path: str) -> Self:
        """Of a Diffusers directory; of anything else nothing is known here."""
        directory = Path(model_path)
        return cls.of(
            read_config(directory / "model_index.json"),
            read_config(directory / "transformer" / "config.json"),
            read_config(directory / "card.json"),
        )


def read_config(file: Path) -> Mapping[str, Any]:
    """A JSON object; empty where there is none that can be read."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
