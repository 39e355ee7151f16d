"""InputValidation: the last word on a request, on every rank alike."""

from __future__ import annotations

import json
from collections.abc import Callable

from pipeline import request
from pipeline.limits import ModelCard, RequestError
from pipeline.media.picture import open_image
from pipeline.request import Request
from pipeline.stages.control import Steps
from pipeline.stages.stage import Stage
from pipeline.stages.state import State


class InputValidation(Stage):
    """Holds the request against the card and what the layout can share out; opens its images."""

    name = "input_validation"
    inputs = ("request",)
    outputs = ("images",)

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
        request.check(state.request, self._card)
        if (tokens := self._tokens(state.request)) < self._shards:
            raise RequestError(
                "size",
                state.request.size,
                f"is too small for {self._shards} ranks: tokens to share: {tokens}",
            )
        self._open_images(state, steps)

    def _open_images(self, state: State, steps: Steps) -> None:
        state.images = ()
        if not state.request.images:
            return
        refused = ""
        try:
            state.images = tuple(
                open_image(state.inputs / name, self._card) for name in state.request.images
            )
        except RequestError as error:
            refused = json.dumps([error.field, error.value, error.allowed])
        # A file may go away between two ranks' looks: what one cannot read, none goes on with.
        if refused := steps.first(refused):
            raise RequestError(*json.loads(refused))
