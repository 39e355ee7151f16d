"""Webhooks: Standard Webhooks 1.0 (https://www.standardwebhooks.com), from the outbox in Redis.

The script that ends a job writes its event; the leading relay's courier sends it, at least once, with
a stable id. `target` guards whom we call, `message` says what, `delivery` does it, `courier` when.
"""

from jobs.webhooks.target import check_webhook_url

__all__ = ["check_webhook_url"]
