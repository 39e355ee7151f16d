"""How a combination may be said: synonyms, other word orders, unknown words, parts left unsaid."""

from collections.abc import Iterator
from random import Random
from typing import Final

from ops.demo_model.world import BACKGROUNDS, COLOURS, MOTIONS, SHAPES, Combination, article

UNKNOWN: Final = "xyzzy"
"""Stands for any word outside the vocabulary; the tokenizer maps all of them to one token."""

PLAIN: Final = 12
SAID_OTHERWISE: Final = 6
WITH_UNKNOWN: Final = 8
WITH_GAPS: Final = 6
VARIANTS: Final = PLAIN + SAID_OTHERWISE + WITH_UNKNOWN + WITH_GAPS
"""Captions a combination: the plain prompt, and three kinds of looser ones."""

MAX_UNKNOWN: Final = 10
"""The most unknown words put into one caption."""

_SYNONYMS: Final = {
    "circle": ("circle", "disc", "ball", "dot"),
    "square": ("square", "box"),
    "purple": ("purple", "violet"),
    "cyan": ("cyan", "turquoise"),
    "gray": ("gray", "grey"),
    "growing": ("growing", "grows", "getting bigger", "getting larger"),
    "shrinking": ("shrinking", "shrinks", "getting smaller"),
    "standing still": ("standing still", "stands still", "staying still"),
}

_FORMS: Final = (
    "{a} {colour} {shape} {motion} on {b} {background} background",
    "the {colour} {shape} is {motion} on the {background} background",
    "{colour} {shape} {motion} on {background}",
    "{colour} {shape} , {motion} , {background} background",
    "on {b} {background} background {a} {colour} {shape} {motion}",
    "{a} {colour} {shape} that is {motion} in front of {b} {background} background",
    "a video of {a} {colour} {shape} {motion} on {b} {background} background",
    "an image of {a} {colour} {shape} on {b} {background} background , {motion}",
)


def captions(combination: Combination, rng: Random) -> tuple[str, ...]:
    """`VARIANTS` captions of one combination, the first `PLAIN` of them the plain prompt."""
    plain = combination.prompt
    return (
        *[plain] * PLAIN,
        *[_otherwise(combination, rng) for _ in range(SAID_OTHERWISE)],
        *[_with_unknown(plain, rng) for _ in range(WITH_UNKNOWN)],
        *[_with_gaps(combination, rng) for _ in range(WITH_GAPS)],
    )


def vocabulary() -> tuple[str, ...]:
    """Every word that a caption can hold, sorted; all others are unknown to the model."""
    parts = (*SHAPES, *COLOURS, *BACKGROUNDS, *MOTIONS)
    sayings = [saying for part in parts for saying in _sayings(part)]
    forms = [form.format(a="a", b="an", **dict.fromkeys(_PARTS, "a")) for form in _FORMS]
    return tuple(sorted({word for text in (*sayings, *forms) for word in text.split()}))


_PARTS: Final = ("colour", "shape", "motion", "background")


def _sayings(part: str) -> Iterator[str]:
    yield from _SYNONYMS.get(part, (part,))
    if part.startswith("moving"):
        way = part.split()[1]
        yield from (f"moves {way}", f"going {way}", f"moving to the {way}", f"moving {way}wards")


def _otherwise(combination: Combination, rng: Random) -> str:
    said = {part: rng.choice(tuple(_sayings(getattr(combination, part)))) for part in _PARTS}
    form = rng.choice(_FORMS)
    return form.format(a=article(said["colour"]), b=article(said["background"]), **said)


def _with_unknown(caption: str, rng: Random) -> str:
    words = caption.split()
    for _ in range(rng.randint(1, MAX_UNKNOWN)):
        words.insert(rng.randint(0, len(words)), UNKNOWN)
    return " ".join(words)


def _with_gaps(combination: Combination, rng: Random) -> str:
    kept = {part: rng.random() < 0.65 for part in _PARTS}
    words = [getattr(combination, part) for part in _PARTS[:3] if kept[part]]
    if kept["background"]:
        words.append(f"on {article(combination.background)} {combination.background} background")
    return " ".join(words)
