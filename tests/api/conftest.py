"""The API over its real parts: a valkey server, artifacts on disk or S3, a worker's announcement."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api.app import create_app
from jobs.artifacts import ArtifactStore, open_artifacts
from jobs.settings import Settings
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.worker import announce
from tests.fixtures.redis import free_port
from tests.fixtures.s3 import S3Server

MAX_BODY_BYTES = 64 * 1024


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Settings:
    return Settings(
        redis_url=redis_url,
        home=tmp_path / "home",
        max_body_bytes=MAX_BODY_BYTES,
        port=free_port(),
        lease_s=3600,  # a worker that is announced once stays for the whole test
    )


@pytest.fixture
def store(settings: Settings) -> JobStore:
    return JobStore.connect(settings)


@pytest.fixture
def workers(store: JobStore) -> Workers:
    return Workers(store)


@pytest.fixture
def artifacts(settings: Settings) -> ArtifactStore:
    return open_artifacts(settings)


@pytest.fixture
def app(settings: Settings, store: JobStore, workers: Workers, artifacts: ArtifactStore) -> Flask:
    return create_app(settings, store, workers, artifacts)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of an API that no worker has spoken to."""
    return app.test_client()


@pytest.fixture
def served(client: FlaskClient, workers: Workers) -> FlaskClient:
    """A client of an API with one ready gang of the model `tiny`."""
    announce(workers)
    return client


@pytest.fixture
def s3_app(
    s3_server: S3Server, redis_url: str, tmp_path: Path
) -> Callable[..., tuple[FlaskClient, JobStore, ArtifactStore]]:
    """Makes an API whose artifacts lie on S3, with settings of its own."""

    def make(**overrides: object) -> tuple[FlaskClient, JobStore, ArtifactStore]:
        settings = s3_server.settings(tmp_path, redis_url=redis_url, **overrides)
        store, artifacts = JobStore.connect(settings), open_artifacts(settings)
        workers = Workers(store)
        announce(workers)
        return create_app(settings, store, workers, artifacts).test_client(), store, artifacts

    return make
