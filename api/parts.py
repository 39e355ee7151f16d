"""What every view works with, passed in once by `create_app`."""

from __future__ import annotations

from dataclasses import dataclass

from jobs.artifacts import ArtifactStore
from jobs.catalog import Catalog
from jobs.events import Events
from jobs.rates import Rates
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers


@dataclass(frozen=True)
class Parts:
    """The service's parts as the API sees them."""

    settings: Settings
    store: JobStore
    workers: Workers
    artifacts: ArtifactStore
    catalog: Catalog
    events: Events
    rates: Rates
