"""Store and broker over TLS: certificates are checked, and plain text is not what passes."""

from __future__ import annotations

import pytest

from jobs.celery_app import make_celery, queue_name, send
from jobs.errors import StoreUnavailable
from jobs.states import State
from jobs.store import JobStore
from tests.fixtures.tls import TlsEnd
from tests.jobs import making


def test_store_and_broker_speak_tls(tls_end: TlsEnd) -> None:
    settings = making.settings(f"{tls_end.url}?ssl_ca_certs={tls_end.certificate}")
    store = JobStore.connect(settings)
    job = store.submit(making.job())
    assert store.get(job.id).state is State.QUEUED
    app = make_celery(settings)
    send(app, job.id, "tiny", 1)
    assert store.redis.llen(f"t:{queue_name('tiny')}") == 1
    app.close()


def test_a_certificate_that_nobody_vouches_for_is_refused_by_both(tls_end: TlsEnd) -> None:
    settings = making.settings(tls_end.url)
    with pytest.raises(StoreUnavailable, match="certificate verify failed"):
        JobStore.connect(settings).ping()
    app = make_celery(settings)
    with pytest.raises(StoreUnavailable):
        send(app, "video_1", "tiny", 1)
    app.close()
