"""Everything that `jobs` raises. Redis and boto errors never leave this room: they become these.

RushesError
├── NotFound            404  no such job, or not yours
├── ModelNotFound       404  no worker has announced this model
├── Conflict            409  the job's state does not allow it
│   └── KeyReused            an idempotency key with another body, or of a job that is deleted
├── BadKey              401  no API key, or none that is known
├── Forbidden           403  the key's scope does not allow it
├── TooMany             429  a limit of the caller's is reached
│   ├── QueueFull            as many jobs wait as may wait
│   ├── RateLimited          too many jobs in this time
│   └── OverBudget           the key's device-seconds of this day are used up
├── Unavailable         503  come back later
│   ├── StoreUnavailable     Redis does not answer or refuses writes
│   ├── StorageUnavailable   the artifact store does not answer or refuses
│   │   └── StorageRefused   it will not do it until somebody changes something
│   ├── Busy                 as many open streams as one process holds
│   └── ModelLoading         announced, but no gang has reported its card yet
└── SettingsError            a setting that stops start-up; one line that says how to fix it
"""

from __future__ import annotations

EXIT_REFUSED = 2
"""Exit code of a process that cannot run as configured: another start would end the same."""


class RushesError(Exception):
    """Base of all. `status` is the HTTP status, `code` the stable word in the API's error object."""

    status = 500
    code = "internal_error"
    retry_after_s: int | None = None
    param: str | None = None
    """The field of the request that is at fault."""


class NotFound(RushesError):
    """No such job for this owner."""

    status = 404
    code = "not_found"


class ModelNotFound(RushesError):
    """A model name that no worker has announced."""

    status = 404
    code = "model_not_found"
    param = "model"


class Conflict(RushesError):
    """The job is in a state that does not allow the call."""

    status = 409
    code = "conflict"


class KeyReused(Conflict):
    """The Idempotency-Key was used for something else."""

    code = "idempotency_key_reused"


class BadKey(RushesError):
    """No API key, or none that is known."""

    status = 401
    code = "invalid_api_key"


class Forbidden(RushesError):
    """The key's scope does not allow the call."""

    status = 403
    code = "forbidden"


class TooMany(RushesError):
    """A limit of the caller's is reached."""

    status = 429
    code = "too_many"

    def __init__(self, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        if retry_after_s is not None:
            self.retry_after_s = retry_after_s


class QueueFull(TooMany):
    """As many jobs wait as may wait."""

    code = "queue_full"
    retry_after_s = 10


class RateLimited(TooMany):
    """Too many jobs in this time."""

    code = "rate_limit_exceeded"


class OverBudget(TooMany):
    """The key's device-seconds of this day are used up."""

    code = "insufficient_quota"


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


class StorageRefused(StorageUnavailable):
    """Asking again brings the same answer: a wrong secret, no such bucket, a folder not ours."""


class Busy(Unavailable):
    """This process holds as many open streams as it may."""

    code = "too_many_streams"


class ModelLoading(Unavailable):
    """The model is announced, but no gang has reported its limits yet."""

    code = "model_loading"
    retry_after_s = 5


class SettingsError(RushesError):
    """A setting that stops start-up."""

    code = "bad_setting"
