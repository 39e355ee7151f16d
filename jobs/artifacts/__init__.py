"""Finished files: one interface, on a local disk or in S3."""

from jobs.artifacts.store import ArtifactStore, StoredFile, check_at_start, open_artifacts

__all__ = ["ArtifactStore", "StoredFile", "check_at_start", "open_artifacts"]
