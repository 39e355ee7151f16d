"""A model card from three sources: the family, the model's own config, the directory's card.json."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from pipeline.limits import ModelCard
from pipeline.options import EngineOptions


def make_card(options: EngineOptions, defaults: dict[str, Any]) -> ModelCard:
    """Lay the directory's `card.json`, if there is one, over the family's `defaults`.

    Its keys are ModelCard's fields. The name is always the served one; `workload_type` leaves only
    that workload.

    Raises:
        ValueError: a card.json that cannot be read, or a workload that the model does not know.
    """
    file = Path(options.model_path) / "card.json"
    try:
        own = json.loads(file.read_text()) if file.is_file() else {}
        card = ModelCard.model_validate({**defaults, **own, "name": options.name})
    except (ValidationError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"cannot read {file}: {error}") from error
    if options.workload_type is None:
        return card
    if options.workload_type not in card.workloads:
        known = ", ".join(card.workloads)
        raise ValueError(f"{card.name} knows {known}, not {options.workload_type}")
    return card.model_copy(update={"workloads": (options.workload_type,)})
