"""The demo model's small world as data: its words, its prompts, and what training may not see.

Nothing here needs torch, so the scorer, tests and any client can import it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import product
from types import MappingProxyType
from typing import Final

Rgb = tuple[float, float, float]
"""A colour as red, green, blue in 0..1."""

SHAPES: Final = ("circle", "square", "triangle")

COLOURS: Final[Mapping[str, Rgb]] = MappingProxyType(
    {
        "red": (0.9, 0.1, 0.1),
        "green": (0.1, 0.75, 0.2),
        "blue": (0.15, 0.3, 0.95),
        "yellow": (0.95, 0.9, 0.1),
        "purple": (0.6, 0.2, 0.8),
        "orange": (1.0, 0.55, 0.1),
        "white": (0.97, 0.97, 0.97),
        "cyan": (0.1, 0.85, 0.9),
    }
)

BACKGROUNDS: Final[Mapping[str, Rgb]] = MappingProxyType(
    {
        "black": (0.03, 0.03, 0.03),
        "gray": (0.45, 0.45, 0.45),
        "pink": (0.98, 0.75, 0.82),
        "brown": (0.4, 0.25, 0.12),
    }
)

MOTIONS: Final = (
    "moving right",
    "moving left",
    "moving up",
    "moving down",
    "growing",
    "shrinking",
    "standing still",
)

SIZE: Final = 128
"""Native height and width in pixels."""

FRAMES: Final = 17
"""Native number of frames."""

HELD_OUT: Final = 64
"""How many combinations training never sees together."""


@dataclass(frozen=True, slots=True)
class Combination:
    """One thing the model can be asked for: each field is a word of the tables above."""

    shape: str
    colour: str
    background: str
    motion: str

    @property
    def prompt(self) -> str:
        """The plain prompt, as in "a red circle moving right on a black background"."""
        return (
            f"{article(self.colour)} {self.colour} {self.shape} {self.motion} "
            f"on {article(self.background)} {self.background} background"
        )


def article(word: str) -> str:
    """The indefinite article that `word` takes: "a red", "an orange"."""
    return "an" if word[0] in "aeiou" else "a"


def combinations() -> tuple[Combination, ...]:
    """All 672 combinations, in a fixed order."""
    return tuple(Combination(*parts) for parts in product(SHAPES, COLOURS, BACKGROUNDS, MOTIONS))


def held_out() -> tuple[Combination, ...]:
    """The combinations training never sees, in a fixed order.

    Chosen by the prompt's hash, so that neither Python's version nor its random module can move
    the split under a trained model.
    """

    def rank(combination: Combination) -> str:
        return sha256(combination.prompt.encode()).hexdigest()

    return tuple(sorted(combinations(), key=rank)[:HELD_OUT])


def trained() -> tuple[Combination, ...]:
    """The combinations training draws from, in a fixed order."""
    kept = set(held_out())
    return tuple(combination for combination in combinations() if combination not in kept)
