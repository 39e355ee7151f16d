"""The application factory: parts in, WSGI application out."""

from __future__ import annotations

from flask import Flask, Request

from api import errors, health, models, request_id, videos
from api.bodies import StrictFormParser
from api.parts import Parts
from jobs.artifacts import ArtifactStore
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers


class StrictRequest(Request):
    """Flask's request, but a malformed form is an error and not an empty form."""

    form_data_parser_class = StrictFormParser


def create_app(
    settings: Settings, store: JobStore, workers: Workers, artifacts: ArtifactStore
) -> Flask:
    """The API over these parts. Contacts nothing."""
    app = Flask("api", static_folder=None)
    app.request_class = StrictRequest
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider's own

    parts = Parts(settings, store, workers, artifacts)
    request_id.install(app)
    errors.install(app)
    app.register_blueprint(videos.blueprint(parts))
    app.register_blueprint(models.blueprint(parts))
    app.register_blueprint(health.blueprint(parts))
    return app
