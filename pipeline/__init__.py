"""Generation: request, limits, layout, generator, gang, stages, parallel, platforms, models, media.

Imports nothing of ours, and no torch before a rank asks for it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipeline.generator import DiffGenerator, GenerationError, Output

__all__ = ["DiffGenerator", "GenerationError", "Output"]


def __getattr__(name: str) -> object:
    """Load the generator when it is asked for: `import pipeline` stays light."""
    if name in __all__:
        from pipeline import generator

        return getattr(generator, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
