"""What became of a job's webhooks, and once more."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, jsonify

from api.door import owner
from api.jobs import known
from api.parts import Parts
from jobs.webhooks.log import Delivery, DeliveryLog


def blueprint(parts: Parts, kind: str) -> Blueprint:
    """The routes below one kind of job, video or image."""
    routes = Blueprint(f"{kind}_deliveries", __name__, url_prefix=f"/v1/{kind}s")
    log = DeliveryLog(parts.store)

    @routes.get("/<job_id>/deliveries")
    def index(job_id: str) -> Response:
        found = log.list(known(job_id, kind), owner=owner())
        return jsonify(object="list", data=[_described(each) for each in found])

    @routes.post("/<job_id>/deliveries/<webhook_id>/replay")
    def replay(job_id: str, webhook_id: str) -> Response:
        return jsonify(_described(log.replay(known(job_id, kind), webhook_id, owner=owner())))

    return routes


def _described(delivery: Delivery) -> dict[str, Any]:
    _, kind, rest = delivery.event.split("_", 2)
    due = delivery.next_attempt_at
    return {
        "webhook_id": delivery.event,
        "object": "webhook.delivery",
        "type": f"{kind}.{rest.partition('_')[2]}",
        "url": delivery.url,
        "created_at": int(delivery.created_at),
        "status": delivery.status,
        "next_attempt_at": None if due is None else int(due),
        "attempts": list(delivery.attempts),
    }
