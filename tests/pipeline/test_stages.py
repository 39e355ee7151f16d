from __future__ import annotations

from pathlib import Path

import pytest
import torch

from pipeline.parallel.cfg import Branch, Guidance
from pipeline.request import Fidelity, Request
from pipeline.stages.control import Steps
from pipeline.stages.stage import Stage, check_order
from pipeline.stages.state import State
from pipeline.stages.text import TextEncoding

REQUEST = Request(
    model="m",
    workload="t2v",
    prompt="a",
    negative_prompt="blur",
    width=64,
    height=64,
    num_frames=9,
    fps=8,
    num_inference_steps=4,
    guidance_scale=5.0,
    seed=1,
)


class Idle(Stage):
    def run(self, state: State, steps: Steps) -> None:
        raise NotImplementedError


class Encode(Idle):
    name = "encode"
    inputs = ("request",)
    outputs = ("latent",)


class Decode(Idle):
    name = "decode"
    inputs = ("request", "latent", "timesteps")
    outputs = ("frames",)


def test_a_stage_that_lacks_an_input_is_named_with_it() -> None:
    with pytest.raises(ValueError, match="decode needs timesteps, which no stage before makes"):
        check_order([Encode(), Decode()])


def test_the_order_counts() -> None:
    with pytest.raises(ValueError, match="decode needs latent, timesteps, which"):
        check_order([Decode(), Encode()])


class OneRank(Guidance):
    """Both branches are this rank's."""

    def __init__(self) -> None:
        """Without a group."""

    def branches(self, scale: float) -> tuple[Branch, ...]:
        return ("cond", "uncond") if scale > 1 else ("cond",)


class Quiet(Steps):
    def __init__(self) -> None:
        """Nobody listens."""

    def done(self, stage: str, step: int, steps: int) -> None:
        """Drop it."""


def encode_texts(texts: list[str], fidelity: Fidelity) -> list[str]:
    """What was encoded for one request a text, all with the same negative prompt."""
    encoded: list[str] = []

    def encode(text: str) -> torch.Tensor:
        encoded.append(text)
        return torch.full((1, 1), float(len(text)))

    stage = TextEncoding(encode, OneRank())
    for text in texts:
        request = REQUEST.model_copy(update={"prompt": text, "fidelity": fidelity})
        state = State(request, inputs=Path())
        stage.run(state, Quiet())
        assert {branch: float(embeds) for branch, embeds in state.prompt_embeds.items()} == {
            "cond": len(text),
            "uncond": len(REQUEST.negative_prompt),
        }
    return encoded


def test_a_text_is_encoded_once_unless_every_step_is_to_be_exact() -> None:
    assert encode_texts(["a", "bb", "a"], "lossless") == ["a", "blur", "bb"]
    assert encode_texts(["a", "bb", "a"], "bounded") == ["a", "blur", "bb"]
    assert encode_texts(["a", "a"], "exact") == ["a", "blur"] * 2


def test_only_so_many_texts_are_kept_the_longest_unused_leaves() -> None:
    many = [str(number) for number in range(100, 120)]
    encoded = encode_texts([*many, many[-1], many[0]], "lossless")
    assert encoded == ["100", "blur", *many[1:], "100"]
