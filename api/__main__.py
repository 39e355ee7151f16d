"""`python -m api`: the API as its own process.

Sockets, locks and threads are made cooperative before anything else can import them, so that a
connection costs a greenlet and not a thread. That is why the role is a module of its own and no function
to call.
"""

from __future__ import annotations

import sys

from gevent import monkey

monkey.patch_all()


def main() -> None:
    """Serve; what cannot be is one line and exit code 2."""
    from api.server import run
    from jobs.errors import SettingsError
    from jobs.settings import load_settings

    try:
        run(load_settings())
    except SettingsError as error:
        sys.stderr.write(f"rushes: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
