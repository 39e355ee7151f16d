"""Everything that `jobs` raises. Redis and boto errors never leave this room: they become these.

RushesError
├── NotFound            404  no such job, or not yours
├── ModelNotFound       404  no worker has announced this model
├── Conflict            409  the job's state does not allow it
├── QueueFull           429  as many jobs wait as may wait
├── Unavailable         503  come back later
│   ├── StoreUnavailable     Redis does not answer or refuses writes
│   ├── StorageUnavailable   the artifact store does not answer or refuses
│   └── ModelLoading         announced, but no gang has reported its card yet
└── SettingsError            a setting that stops start-up; one line that says how to fix it
"""

from __future__ import annotations


class RushesError(Exception):
    """Base of all. `status` is the HTTP status, `code` the stable word in the API's error object."""

    status = 500
    code = "internal_error"
    retry_after_s: int | None = None


class NotFound(RushesError):
    """No such job for this owner."""

    status = 404
    code = "not_found"


class ModelNotFound(RushesError):
    """A model name that no worker has announced."""

    status = 404
    code = "model_not_found"


class Conflict(RushesError):
    """The job is in a state that does not allow the call."""

    status = 409
    code = "conflict"


class QueueFull(RushesError):
    """As many jobs wait as may wait."""

    status = 429
    code = "queue_full"
    retry_after_s = 10


class Unavailable(RushesError):
    """Something that the service needs does not answer now."""

    status = 503
    code = "unavailable"
    retry_after_s = 2


class StoreUnavailable(Unavailable):
    """Redis does not answer or refuses writes."""

    code = "store_unavailable"


class StorageUnavailable(Unavailable):
    """The artifact store does not answer or refuses."""

    code = "storage_unavailable"


class ModelLoading(Unavailable):
    """The model is announced, but no gang has reported its limits yet."""

    code = "model_loading"
    retry_after_s = 5


class SettingsError(RushesError):
    """A setting that stops start-up."""

    code = "bad_setting"
