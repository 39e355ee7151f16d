"""The same cases on every artifact store."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from jobs.artifacts import ArtifactStore, open_artifacts
from jobs.artifacts.store import Chunks, probe
from jobs.errors import NotFound, StorageUnavailable
from jobs.settings import Settings

CONTENT = bytes(range(256)) * 5000  # 1.28 MB: several chunks


@pytest.fixture(params=["disk", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    if request.param == "s3":
        return open_artifacts(request.getfixturevalue("s3_server").settings(tmp_path))
    return open_artifacts(Settings(home=tmp_path / "home"))


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(CONTENT)
    return path


def read(store: ArtifactStore, key: str, *, start: int = 0, length: int | None = None) -> bytes:
    with closing(store.read(key, start=start, length=length)) as chunks:
        return b"".join(chunks)


def open_files() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def test_put_tells_size_and_digest_and_read_gives_the_bytes_back(
    store: ArtifactStore, clip: Path
) -> None:
    stored = store.put("jobs/a/1/video.mp4", clip, "video/mp4")

    assert stored.size_bytes == len(CONTENT) == store.size("jobs/a/1/video.mp4")
    assert stored.sha256 == hashlib.sha256(CONTENT).hexdigest()
    assert read(store, "jobs/a/1/video.mp4") == CONTENT


def test_an_empty_file_is_a_file(store: ArtifactStore, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.touch()
    assert store.put("jobs/a/empty", empty, "text/plain").size_bytes == 0
    assert store.size("jobs/a/empty") == 0
    assert read(store, "jobs/a/empty") == b""


RANGES = (
    (0, 1),
    (7, 100),
    (300_000, 700_001),
    (len(CONTENT) - 1, None),
    (len(CONTENT) - 5, 100),
    (len(CONTENT), None),
    (len(CONTENT) + 10, 10),
)


def test_read_gives_a_range_and_nothing_past_the_end(store: ArtifactStore, clip: Path) -> None:
    store.put("jobs/a/video.mp4", clip, "video/mp4")
    for start, length in RANGES:
        stop = None if length is None else start + length
        got = read(store, "jobs/a/video.mp4", start=start, length=length)
        assert got == CONTENT[start:stop], (start, length)


def test_a_second_put_replaces_the_first(store: ArtifactStore, clip: Path, tmp_path: Path) -> None:
    store.put("jobs/a/video.mp4", clip, "video/mp4")
    other = tmp_path / "other"
    other.write_bytes(b"other")
    store.put("jobs/a/video.mp4", other, "video/mp4")
    assert read(store, "jobs/a/video.mp4") == b"other"


def test_what_is_not_there_is_not_found(store: ArtifactStore, clip: Path) -> None:
    store.put("jobs/a/1/video.mp4", clip, "video/mp4")
    for key in ("jobs/b/video.mp4", "jobs/a/1", "jobs/a/1/video.mp4/deeper", "jobs/a/1/video.mp"):
        with pytest.raises(NotFound):
            store.size(key)
        with pytest.raises(NotFound):
            store.read(key)


def test_delete_prefix_deletes_the_folder_and_no_neighbour(
    store: ArtifactStore, clip: Path
) -> None:
    for key in ("jobs/a/1-x/video.mp4", "jobs/a/1-x/t/thumb.png", "jobs/a/1-xy/v", "jobs/ab/v"):
        store.put(key, clip, "video/mp4")

    assert store.delete_prefix("jobs/a/1-x") == 2
    assert store.delete_prefix("jobs/a/1-x/") == 0
    with pytest.raises(NotFound):
        store.size("jobs/a/1-x/video.mp4")
    assert store.size("jobs/a/1-xy/v") == len(CONTENT)

    assert store.delete_prefix("jobs/a/") == 1
    assert store.size("jobs/ab/v") == len(CONTENT)
    assert store.delete_prefix("jobs/never") == 0
    assert store.delete_prefix("jobs/ab/v") == 0, "a file is no folder"
    assert store.size("jobs/ab/v") == len(CONTENT)


BAD_KEYS = (
    *("", "/", ".", "..", "a/../b", "../a", "/etc/passwd", "a//b", "a/.hidden", "a\\b", "a\0b"),
    *("a\n", "a b", "é", "a?b", "a%2e", "a//", "x" * 901),
)


def test_no_other_key_can_be_spelled(store: ArtifactStore, clip: Path) -> None:
    for key in BAD_KEYS:
        with pytest.raises(ValueError, match="not an artifact key"):
            store.put(key, clip, "video/mp4")
        with pytest.raises(ValueError, match="not an artifact key"):
            store.read(key)
        with pytest.raises(ValueError, match="not an artifact key"):
            store.size(key)
        with pytest.raises(ValueError, match="not an artifact key"):
            store.url(key, content_type="video/mp4", file_name="v.mp4")
        with pytest.raises(ValueError, match="not an artifact key"):
            store.delete_prefix(key)


def test_a_range_that_means_nothing_is_refused(store: ArtifactStore) -> None:
    for start, length in ((-1, None), (0, 0), (0, -1)):
        with pytest.raises(ValueError, match="not a range"):
            store.read("jobs/a/video.mp4", start=start, length=length)


def test_a_source_that_is_not_there_is_the_callers_error(
    store: ArtifactStore, tmp_path: Path
) -> None:
    with pytest.raises(FileNotFoundError):
        store.put("jobs/a/video.mp4", tmp_path / "missing", "video/mp4")
    with pytest.raises(NotFound):
        store.size("jobs/a/video.mp4")


def test_closing_before_the_first_chunk_lets_go(store: ArtifactStore, clip: Path) -> None:
    store.put("jobs/a/video.mp4", clip, "video/mp4")
    before = open_files()
    chunks = store.read("jobs/a/video.mp4")
    chunks.close()
    chunks.close()
    assert list(chunks) == []
    # S3 keeps one idle connection in its pool, and no more however often
    for _ in range(5):
        store.read("jobs/a/video.mp4").close()
    assert open_files() <= before + 1


def test_check_leaves_nothing_behind(store: ArtifactStore) -> None:
    store.check()
    assert store.delete_prefix("check") == 0


class Breaks:
    """The store, but for its next `times` reads: before them `act` happens."""

    def __init__(self, store: ArtifactStore, act: Callable[[], object], times: int) -> None:
        self.store, self.act, self.times = store, act, times

    def __getattr__(self, name: str) -> Any:
        return getattr(self.store, name)

    def read(self, key: str, *, start: int = 0, length: int | None = None) -> Chunks:
        if self.times:
            self.times -= 1
            self.act()
        return self.store.read(key, start=start, length=length)


def test_a_check_that_ended_half_way_leaves_what_the_next_removes(store: ArtifactStore) -> None:
    def die() -> None:
        raise StorageUnavailable("it went away")

    for _ in range(2):
        with pytest.raises(StorageUnavailable):
            probe(Breaks(store, die, 1))
    store.check()
    assert store.delete_prefix("check") == 0


def test_checks_at_the_same_time_do_not_mind_each_other(store: ArtifactStore) -> None:
    probe(Breaks(store, store.check, 1))
    with pytest.raises(StorageUnavailable, match="has not what was put"):
        probe(Breaks(store, store.check, 99))
