"""The served models as a busy reader knows them: at most `hold_s` old."""

from __future__ import annotations

import time
from collections.abc import Callable

from jobs.held import Held
from jobs.workers import ServedModel, Workers
from pipeline.limits import ModelCard


class Catalog:
    """What is served. A name that is not known, or not ready, is always asked for anew.

    Args:
        hold_s: how long an answer holds; a create need not ask Redis three times.
    """

    def __init__(
        self, workers: Workers, *, hold_s: float = 0.5, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._workers = workers
        self._models = Held(workers.models, hold_s=hold_s, clock=clock)

    def card(self, name: str | None) -> ModelCard:
        """The card of a served model by any of its names; None: the first served model.

        Raises:
            ModelNotFound: no worker has announced such a model.
            ModelLoading: announced, but no gang has been ready yet.
        """
        for model in self.models():
            if name is None or name in model.names:
                return model.card or self._workers.card(name)
        return self._workers.card(name)

    def first_name(self, name: str) -> str:
        """What the jobs of a served model call it, by any of its names; any other name as it is."""
        return next((model.name for model in self.models() if name in model.names), name)

    def gangs(self, name: str) -> int:
        """Gangs of this model that are ready."""
        return sum(model.live_gangs for model in self.models() if model.name == name)

    def models(self) -> tuple[ServedModel, ...]:
        """Every known model, the default one first."""
        return self._models()
