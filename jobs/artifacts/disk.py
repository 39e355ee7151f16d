"""Artifacts in a folder of the local disk.

A put writes a hidden neighbour, fsyncs it and renames it, so that a crash leaves the whole file or
none. Content types are not kept: the job's record has them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from jobs.artifacts.store import (
    CHUNK_BYTES,
    Chunks,
    SourceChunks,
    StoredFile,
    probe,
    safe_key,
    safe_range,
)
from jobs.errors import NotFound, StorageRefused, StorageUnavailable

_FOR_GOOD = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EEXIST}


class DiskArtifacts:
    """An ArtifactStore under one root folder, made at the first put."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def put(self, key: str, path: Path, content_type: str) -> StoredFile:  # noqa: ARG002 - the record keeps it
        """See ArtifactStore."""
        target = self._path(key)
        part = target.with_name(f".{secrets.token_hex(8)}.part")
        digest, size = hashlib.sha256(), 0
        with path.open("rb") as source, _translated():
            _make_folder(target.parent)
            try:
                with part.open("xb") as copy:
                    while chunk := source.read(CHUNK_BYTES):
                        digest.update(chunk)
                        size += len(chunk)
                        copy.write(chunk)
                    copy.flush()
                    os.fsync(copy.fileno())
                part.replace(target)
                _sync_folder(target.parent)
            except BaseException:
                part.unlink(missing_ok=True)
                raise
        return StoredFile(size_bytes=size, sha256=digest.hexdigest())

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Chunks:
        """See ArtifactStore."""
        safe_range(start, length)
        with _translated(key):
            file = self._path(key).open("rb")
            file.seek(start)
        return SourceChunks(file, length, _translated)

    def size(self, key: str) -> int:
        """See ArtifactStore."""
        path = self._path(key)
        with _translated(key):
            if not path.is_file():
                raise NotFound(f"no artifact {key}")
            return path.stat().st_size

    def url(self, key: str, *, content_type: str, file_name: str) -> str | None:  # noqa: ARG002 - no links here
        """None: the API streams what lies on disk."""
        safe_key(key)
        return None

    def delete_prefix(self, prefix: str) -> int:
        """See ArtifactStore. Folders that become empty go too."""
        folder = self._path(prefix.removesuffix("/"))
        deleted = 0
        with _translated():
            for inner, _, names in os.walk(folder, topdown=False, onerror=_unless_missing):
                for name in names:
                    Path(inner, name).unlink(missing_ok=True)
                    deleted += not name.startswith(".")
                Path(inner).rmdir()
        self._drop_empty(folder.parent)
        return deleted

    def check(self) -> None:
        """See ArtifactStore."""
        probe(self)

    def _path(self, key: str) -> Path:
        return self._root / safe_key(key)

    def _drop_empty(self, folder: Path) -> None:
        while folder != self._root:
            try:
                folder.rmdir()
            except OSError:  # not empty, or somebody else was faster
                return
            folder = folder.parent


@contextmanager
def _translated(key: str | None = None) -> Iterator[None]:
    """OS errors as ours. With `key`, a missing file is NotFound, else it is an outage as well."""
    try:
        yield
    except OSError as error:
        missing = isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError)
        if key is not None and missing:
            raise NotFound(f"no artifact {key}") from error
        kind = StorageRefused if error.errno in _FOR_GOOD else StorageUnavailable
        raise kind(f"the artifact disk refused: {error}") from error


def _make_folder(folder: Path) -> None:
    """`mkdir -p`, each new entry fsynced into its parent: a rename alone is not durable."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    folder.mkdir(exist_ok=True)
    _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError | NotADirectoryError):
        raise error
