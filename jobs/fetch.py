"""Fetches an input image that a client names by its URL, within bounds of size, time and address."""

from __future__ import annotations

import httpcore

from jobs.settings import Settings
from jobs.webhooks.target import GuardedBackend, TargetRefused, check_url
from pipeline.limits import RequestError

FETCH_S = 15.0
"""For everything together, resolving the name aside."""
_HEADERS = {
    "accept": "image/png, image/jpeg, image/webp",
    "accept-encoding": "identity",
    "user-agent": "rushes",
}


def fetch(url: str, field: str, settings: Settings, *, max_bytes: int) -> bytes:
    """The bytes behind a URL. Redirects are not followed.

    Args:
        url: the client's; never echoed, since it may hold a secret.
        field: the client's word for it.
        settings: whether and whom to ask.
        max_bytes: the most to take.

    Raises:
        RequestError: not offered here, an address that may not be asked, no or another answer.
    """
    if settings.image_urls == "off":
        raise RequestError(field, None, "must be sent along: the server fetches no URLs here")
    private = settings.image_urls == "any"
    check_url(url, field, private=private)
    backend = GuardedBackend(private=private, setting="RUSHES_IMAGE_URLS=any", timeout_s=FETCH_S)
    try:
        with (
            httpcore.ConnectionPool(network_backend=backend) as connections,
            connections.stream("GET", url, headers=list(_HEADERS.items())) as response,
        ):
            return _body(response, field, max_bytes)
    except TargetRefused as refused:
        raise RequestError(field, None, f"cannot be fetched: {refused}") from None
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        kind = type(error).__name__
        raise RequestError(field, None, f"cannot be fetched: {kind} from its host") from None


def _body(response: httpcore.Response, field: str, max_bytes: int) -> bytes:
    if response.status != 200:
        raise RequestError(field, None, f"cannot be fetched: its host answered {response.status}")
    data = bytearray()
    for chunk in response.iter_stream():
        data += chunk
        if len(data) > max_bytes:
            raise RequestError(field, None, f"may have at most {max_bytes} bytes")
    return bytes(data)
