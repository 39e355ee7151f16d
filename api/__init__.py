"""Thin Flask: parse, one call into jobs, answer."""
