"""The application factory: parts in, WSGI application out."""

from __future__ import annotations

from io import BytesIO
from typing import IO

from flask import Flask, Request

from api import (
    admin,
    deliveries,
    errors,
    headers,
    health,
    images,
    jobs,
    metrics,
    models,
    openapi,
    page,
    request_id,
    traces,
    videos,
)
from api.door import Door
from api.forms import StrictFormParser
from api.parts import Parts
from jobs.artifacts import ArtifactStore
from jobs.catalog import Catalog
from jobs.events import Events
from jobs.keys import Keys
from jobs.meter import Meter
from jobs.rates import Rates
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.tracing import OFF, Tracing
from jobs.workers import Workers


class StrictRequest(Request):
    """Flask's request, but a malformed form is an error and not an empty form."""

    form_data_parser_class = StrictFormParser

    def _get_file_stream(self, *_: object, **__: object) -> IO[bytes]:
        """Werkzeug's own hook. In memory, as the views want them; `max_body_bytes` bounds all of them.

        Its temporary files stay open where a form breaks off.
        """
        return BytesIO()


def create_app(
    settings: Settings,
    store: JobStore,
    workers: Workers,
    artifacts: ArtifactStore,
    tracing: Tracing = OFF,
) -> Flask:
    """The API over these parts. Contacts nothing."""
    app = Flask("api", static_folder=None)
    app.request_class = StrictRequest
    app.url_map.merge_slashes = False  # `/v1//videos` is a 404 in our shape, not HTML
    app.url_map.converters["job"] = jobs.JobConverter
    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.config["MAX_FORM_MEMORY_SIZE"] = settings.max_body_bytes
    app.json.sort_keys = False  # type: ignore[attr-defined]  # the default provider's own

    parts = Parts(
        settings,
        store,
        workers,
        artifacts,
        catalog=Catalog(workers),
        events=Events(store, most=settings.max_streams),
        rates=Rates(store),
    )
    app.extensions["rushes"] = parts
    request_id.install(app)
    traces.install(app, tracing)
    headers.install(app, settings)
    Door(settings, Keys(store)).install(app)
    errors.install(app, Meter(store))
    app.register_blueprint(videos.blueprint(parts))
    app.register_blueprint(images.blueprint(parts))
    app.register_blueprint(jobs.blueprint(parts, "video"))
    app.register_blueprint(jobs.blueprint(parts, "image"))
    app.register_blueprint(deliveries.blueprint(parts, "video"))
    app.register_blueprint(deliveries.blueprint(parts, "image"))
    app.register_blueprint(admin.blueprint(parts))
    app.register_blueprint(models.blueprint(parts))
    app.register_blueprint(metrics.blueprint(parts))
    app.register_blueprint(openapi.blueprint())
    app.register_blueprint(health.blueprint(parts))
    app.register_blueprint(page.blueprint())
    return app
