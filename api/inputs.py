"""From what a client gives to checked input images."""

from __future__ import annotations

from collections.abc import Sequence

from api.given import Given, Upload
from jobs.fetch import fetch
from jobs.images import InputImage, check_image
from jobs.settings import Settings
from pipeline.inputs import names_of
from pipeline.limits import ModelCard, RequestError
from pipeline.request import Params, Request, resolve


def resolve_with(params: Params, card: ModelCard, given: Sequence[Given], field: str) -> Request:
    """`resolve`, with input images that the client gave as `field`; nothing is fetched yet.

    Raises:
        RequestError: a value outside the card's limits, in the client's words.
    """
    try:
        return resolve(params, card, names_of(given))
    except RequestError as error:
        if error.field != "image":
            raise
        raise RequestError(field, error.value, error.allowed) from None


def gather(
    given: Sequence[Given], field: str, card: ModelCard, settings: Settings
) -> tuple[InputImage, ...]:
    """Fetch what is to be fetched, and check all; together at most `max_body_bytes`.

    Raises:
        RequestError: an image that the model cannot take, a URL that may not or cannot be fetched.
    """
    left_bytes = settings.max_body_bytes
    images = []
    for each in given:
        if isinstance(each, Upload):
            data = each.data
        else:
            data = fetch(each.url, field, settings, max_bytes=left_bytes)
        left_bytes -= len(data)
        images.append(check_image(data, field, card))
    return tuple(images)
