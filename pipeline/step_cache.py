"""Steps whose transformer blocks are not computed but foretold: `--step-cache`, for Wan.

Diffusers' SeaCache (arXiv:2602.18993): as long as the latent, filtered for what the step can make out
in it, has changed little since the last full step, the blocks' contribution is extrapolated from the
last two. The decision depends on data, so rank 0 decides for all.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.hooks import SeaCacheConfig

from pipeline.parallel.ranks import Ranks
from pipeline.request import Request

log = logging.getLogger(__name__)

THRESHOLD = 0.15
"""Relative change, summed over the steps since the last full one. The demo model's frames then stay
closer to the exact ones than bfloat16's do (docs/TUNING.md)."""

_ROOT_HOOK = "sea_cache_root"


class StepCache:
    """The cache of one model's transformers; in use only for requests that allow it."""

    def __init__(self, transformers: Sequence[Any], channels: int, ranks: Ranks) -> None:
        """`channels` are the latent's, first among those that the transformers see."""
        self._transformers = transformers
        self._channels = channels
        self._ranks = ranks

    @contextmanager
    def in_use(self, request: Request) -> Iterator[None]:
        """Within it steps may be skipped, if the request's `fidelity` is `bounded`."""
        if request.fidelity != "bounded":
            yield
            return
        gates = [self._hang_on(transformer) for transformer in self._transformers]
        try:
            yield
        finally:
            for transformer in self._transformers:
                transformer.disable_cache()
            foretold = sum(gate.foretold for gate in gates)
            log.info("step cache: foretold %d of %d", foretold, sum(gate.asked for gate in gates))

    def forget(self) -> None:
        """Compute the next step in full, as if it were the first. Every rank must call it.

        After a checkpoint: who resumes from it has nothing to foretell from either.
        """
        for transformer in self._transformers:
            if transformer.is_cache_enabled:
                transformer._reset_stateful_cache()

    def _hang_on(self, transformer: Any) -> Gate:
        def latent(
            _model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
        ) -> list[torch.Tensor]:
            seen = args[0] if args else kwargs["hidden_states"]
            return list(seen[:, : self._channels].unbind(0))

        transformer.enable_cache(SeaCacheConfig(threshold=THRESHOLD, raw_vision_callback=latent))
        # Where SeaCache decides; its hooks share the object.
        shared = transformer._diffusers_hook.get_hook(_ROOT_HOOK).shared_state
        shared.resolve_gate = gate = Gate(shared.resolve_gate, self._ranks)
        return gate


class Gate:
    """SeaCache's decision whether to compute a forward's blocks, taken by rank 0 for all ranks."""

    def __init__(self, own: Any, ranks: Ranks) -> None:
        self._own = own
        self._ranks = ranks
        self.foretold = 0
        self.asked = 0

    def __call__(self, state: Any, *more: Any) -> bool:
        """Decide for one forward; `state` is SeaCache's of the branch. Every rank must call it."""
        compute = self._ranks.agree(self._own(state, *more))
        state.gate_should_compute = compute
        if compute:
            state.accumulated_distance = 0.0
        self.asked += 1
        self.foretold += not compute
        return compute
