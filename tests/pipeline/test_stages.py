from __future__ import annotations

import pytest

from pipeline.stages.control import Steps
from pipeline.stages.stage import Stage, check_order
from pipeline.stages.state import State


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
