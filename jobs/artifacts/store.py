"""What every artifact store does, and what all of them share.

A key is a relative path of safe names (`jobs/<id>/<fence>/video.mp4`). A file appears whole under
its key or not at all.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from jobs.errors import NotFound, SettingsError, StorageRefused, StorageUnavailable
from jobs.settings import Settings

CHUNK_BYTES = 256 * 1024
PROBE_FOLDER, PROBE = "check", bytes(range(64))
PROBES = 3
"""So often a check is begun anew when others come between it and its file."""

# Names that start with a dot are the stores' own (half-written files).
_KEY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,199})*")


@dataclass(frozen=True)
class StoredFile:
    """What lies in the store after a put."""

    size_bytes: int
    sha256: str
    """Hexadecimal."""


class Vanished(StorageUnavailable):
    """What was put is not there: the service has lost it, or somebody has deleted it meanwhile."""


class Chunks(Protocol):
    """Bytes in chunks; `close` lets go of the file or connection, also before the first chunk."""

    def __iter__(self) -> Iterator[bytes]: ...

    def __next__(self) -> bytes: ...

    def close(self) -> None:
        """Let go; twice does no harm."""


class ArtifactStore(Protocol):
    """Where artifacts lie.

    Every method raises StorageUnavailable when the disk or the service does not answer or refuses
    (StorageRefused: for good), and ValueError for a key that is no relative path of safe names.
    """

    def put(self, key: str, path: Path, content_type: str) -> StoredFile:
        """Store the file at `path`, streamed; an older one under the same key is replaced.

        Raises:
            OSError: `path` itself cannot be read.
        """

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Chunks:
        """The bytes from `start` on, at most `length`; nothing past the end. Opened at once.

        Raises:
            NotFound: no such key.
        """

    def size(self, key: str) -> int:
        """Size in bytes.

        Raises:
            NotFound: no such key.
        """

    def url(self, key: str, *, content_type: str, file_name: str) -> str | None:
        """A link that lets anybody download `key` for a while; None where there is no such thing."""

    def delete_prefix(self, prefix: str) -> int:
        """Delete every file in the folder `prefix`; returns how many there were, 0 if no such."""

    def check(self) -> None:
        """Put, get and delete a small file."""


def open_artifacts(settings: Settings) -> ArtifactStore:
    """The store that the settings name. Nothing is contacted yet: `check` does that."""
    if settings.artifacts == "s3":
        from jobs.artifacts.s3 import S3Artifacts  # boto3 costs 0.2 s: only those pay who use it

        return S3Artifacts(settings)
    from jobs.artifacts.disk import DiskArtifacts

    return DiskArtifacts(settings.home_path / "artifacts")


def check_at_start(store: ArtifactStore) -> str | None:
    """What is wrong with the store for now, in one line; None: it serves.

    Raises:
        SettingsError: it refuses, and will until somebody changes something.
    """
    try:
        store.check()
    except StorageRefused as error:
        raise SettingsError(f"the artifact storage refuses: {error}") from error
    except StorageUnavailable as error:
        return f"the artifact storage does not serve now: {error}"
    return None


def safe_key(key: str) -> str:
    """`key`, if it is a relative path of safe names.

    Raises:
        ValueError: it is not; no path outside the store can be spelled.
    """
    if len(key) > 900 or not _KEY.fullmatch(key):
        raise ValueError(f"not an artifact key: {key[:100]!r}")
    return key


def safe_range(start: int, length: int | None) -> None:
    """Refuse a range that means nothing.

    Raises:
        ValueError: negative start, or length below 1.
    """
    if start < 0 or (length is not None and length < 1):
        raise ValueError(f"not a range: start {start}, length {length}")


def probe(store: ArtifactStore) -> None:
    """What `check` does, the same for all.

    Always the same bytes under the same key: one that is killed, or whose store goes away half-way,
    leaves one small file at most, and the next one removes it.

    Raises:
        StorageUnavailable: a step failed, or other bytes came back.
    """
    for _ in range(PROBES):
        try:
            got = _put_and_read(store)
        except (NotFound, Vanished):  # another process's check has deleted it just now
            continue
        break
    else:
        raise StorageUnavailable("the artifact store has not what was put")
    store.delete_prefix(PROBE_FOLDER)
    if got != PROBE:
        raise StorageUnavailable("the artifact store gave back other bytes than were put")


def _put_and_read(store: ArtifactStore) -> bytes:
    key = f"{PROBE_FOLDER}/probe"
    try:
        with tempfile.NamedTemporaryFile() as file:
            file.write(PROBE)
            file.flush()
            store.put(key, Path(file.name), "application/octet-stream")
    except OSError as error:
        raise StorageUnavailable(f"no file to check with: {error}") from error
    with closing(store.read(key)) as chunks:
        return b"".join(chunks)


class _Source(Protocol):
    def read(self, size: int, /) -> bytes: ...

    def close(self) -> object: ...


class SourceChunks:
    """Chunks of an open file or response body, at most `length` bytes of it."""

    def __init__(
        self,
        source: _Source,
        length: int | None,
        translate: Callable[[], AbstractContextManager[None]],
    ) -> None:
        """`translate` is the store's context manager that makes its errors ours."""
        self._source = source
        self._left = length
        self._translate = translate

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> bytes:
        most = CHUNK_BYTES if self._left is None else min(self._left, CHUNK_BYTES)
        with self._translate():
            chunk = self._source.read(most) if most else b""
        if not chunk:
            self.close()
            raise StopIteration
        if self._left is not None:
            self._left -= len(chunk)
        return chunk

    def close(self) -> None:
        """Let go of the source; a read after it ends at once."""
        self._left = 0
        self._source.close()
