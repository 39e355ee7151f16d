"""Measurements on this machine, each with its baseline in the same run."""
