"""Thin Flask: parse, one call into jobs, answer."""

GRACE_S = 2
"""How long a stopping API may take to finish what it answers."""
