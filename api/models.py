"""/v1/models: what is served, in OpenAI's list shape, with limits, defaults and live gangs."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify, request

from api.bodies import read_query
from api.fields import ModelQuery
from api.parts import Parts
from jobs.workers import ServedModel
from pipeline.limits import ModelCard
from pipeline.request import parse

DEFAULTS = ("width", "height", "num_frames", "fps", "num_inference_steps", "guidance_scale")
_OTHERS = ("name", "family", "workloads")
LIMITS = tuple(name for name in ModelCard.model_fields if name not in (*DEFAULTS, *_OTHERS))


def blueprint(parts: Parts) -> Blueprint:
    """The routes /v1/models and /v1/model_info."""
    routes = Blueprint("models", __name__, url_prefix="/v1")

    @routes.get("/models")
    def index() -> Response:
        return jsonify(object="list", data=[_public(model) for model in parts.workers.models()])

    @routes.get("/models/<path:model>")
    def retrieve(model: str) -> Response:
        return jsonify(_public(parts.workers.find(model)))

    @routes.get("/model_info")
    def info() -> Response:
        """What other servers' clients ask for, to send it as `model`: a hub id, or the last name."""
        query = parse(ModelQuery, read_query(request))
        public = _public(parts.workers.find(query.model))
        return jsonify(public | {"model_path": public["names"][-1]})

    return routes


def _public(model: ServedModel) -> dict[str, Any]:
    """The default model comes first; a card's fields are null until a gang has reported it."""
    card = model.card
    values = card.model_dump() if card else dict.fromkeys(ModelCard.model_fields)
    return {
        "id": model.name,
        "object": "model",
        "created": int(model.first_seen_at),
        "owned_by": "rushes",
        # A path of the host is taken as a name too, but is nobody's business.
        "names": [model.name, *(each for each in model.names[1:] if not each.startswith("/"))],
        "family": values["family"],
        "workloads": values["workloads"],
        "defaults": {name: values[name] for name in DEFAULTS},
        "limits": {name: values[name] for name in LIMITS},
        "live_gangs": model.live_gangs,
    }
