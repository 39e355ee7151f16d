"""Finished files: one interface, on a local disk or in S3."""

from jobs.artifacts.store import ArtifactStore, StoredFile, open_artifacts

__all__ = ["ArtifactStore", "StoredFile", "open_artifacts"]
