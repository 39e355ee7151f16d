"""What webhooks are signed with: each API key has a secret of its own, made of the service's.

Who can verify can also forge, for the signature is symmetric: so no key's owner knows another's secret.
Nothing is kept for it, and a change of RUSHES_WEBHOOK_SECRET changes all of them.
"""

from __future__ import annotations

import base64
import hashlib
import hmac

from jobs.keys import KEY_PREFIX
from jobs.settings import Settings


def secrets_of(owner: str, settings: Settings) -> tuple[str, ...]:
    """The secrets that the owner's receivers may verify with, the newest first; without keys the service's."""
    if not owner.startswith(KEY_PREFIX):
        return settings.webhook_secrets
    return tuple(_of_key(owner, secret) for secret in settings.webhook_secrets)


def _of_key(key_id: str, secret: str) -> str:
    root = base64.b64decode(secret.removeprefix("whsec_"))
    own = hmac.digest(root, f"webhooks of {key_id}".encode(), hashlib.sha256)
    return f"whsec_{base64.b64encode(own).decode()}"
