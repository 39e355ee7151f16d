"""InputValidation: the last word on a request, on every rank alike."""

from __future__ import annotations

from collections.abc import Callable

from pipeline import request
from pipeline.limits import ModelCard, RequestError
from pipeline.request import Request
from pipeline.stages.control import Steps
from pipeline.stages.stage import Stage
from pipeline.stages.state import State


class InputValidation(Stage):
    """Holds the request against the card and against what the layout can share out."""

    name = "input_validation"
    inputs = ("request",)
    outputs = ()

    def __init__(self, card: ModelCard, tokens: Callable[[Request], int], shards: int) -> None:
        """Check for `shards` ranks that share a sequence of `tokens(request)` tokens."""
        self._card = card
        self._tokens = tokens
        self._shards = shards

    def run(self, state: State, steps: Steps) -> None:
        """Check.

        Raises:
            RequestError: naming field, value and limit.
        """
        del steps
        request.check(state.request, self._card)
        if (tokens := self._tokens(state.request)) < self._shards:
            raise RequestError(
                "size",
                state.request.size,
                f"is too small for {self._shards} ranks: tokens to share: {tokens}",
            )
