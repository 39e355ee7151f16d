"""What only the disk has: half-written files, folders, and OS errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from jobs.artifacts import check_at_start, open_artifacts
from jobs.artifacts.disk import DiskArtifacts
from jobs.errors import SettingsError, StorageUnavailable
from jobs.settings import Settings


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"clip")
    return path


def test_it_lies_under_the_home(tmp_path: Path, clip: Path) -> None:
    open_artifacts(Settings(home=tmp_path / "home")).put("jobs/a/v.mp4", clip, "video/mp4")
    assert (tmp_path / "home/artifacts/jobs/a/v.mp4").read_bytes() == b"clip"


def test_there_are_no_links(tmp_path: Path) -> None:
    store = DiskArtifacts(tmp_path)
    assert store.url("jobs/a/v.mp4", content_type="video/mp4", file_name="v.mp4") is None


def test_a_failed_put_leaves_nothing_and_keeps_the_old_file(
    tmp_path: Path, clip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    store = DiskArtifacts(root)
    store.put("jobs/a/v.mp4", clip, "video/mp4")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    clip.write_bytes(b"newer")
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", full)
        with pytest.raises(StorageUnavailable, match="No space left"):
            store.put("jobs/a/v.mp4", clip, "video/mp4")

    assert [path.name for path in (root / "jobs/a").iterdir()] == ["v.mp4"]
    assert (root / "jobs/a/v.mp4").read_bytes() == b"clip"


def test_a_file_in_place_of_the_root_is_unavailable(tmp_path: Path, clip: Path) -> None:
    store = DiskArtifacts(clip)
    with pytest.raises(StorageUnavailable):
        store.put("jobs/a/v.mp4", clip, "video/mp4")
    with pytest.raises(SettingsError, match="the artifact storage refuses: "):
        check_at_start(store)
    assert check_at_start(DiskArtifacts(tmp_path / "root")) is None


def test_delete_prefix_leaves_no_empty_folders(tmp_path: Path, clip: Path) -> None:
    store = DiskArtifacts(tmp_path / "root")
    store.put("jobs/a/1/v.mp4", clip, "video/mp4")
    (tmp_path / "root/jobs/a/1/.left.part").touch()  # a worker died here
    assert store.delete_prefix("jobs/a/1") == 1
    assert list((tmp_path / "root").iterdir()) == []
