"""Where finished files go."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.limits import RequestError
from pipeline.outputs import make_folders, plan_paths
from pipeline.request import Request


def request(prompt: str = "a fox", seed: int = 1, num_frames: int = 9) -> Request:
    return Request(
        model="m",
        workload="t2i" if num_frames == 1 else "t2v",
        prompt=prompt,
        negative_prompt="",
        width=64,
        height=64,
        num_frames=num_frames,
        fps=8,
        num_inference_steps=1,
        guidance_scale=1.0,
        seed=seed,
    )


def test_a_file_is_the_file_and_several_are_numbered() -> None:
    assert plan_paths("out/clip.mp4", [request()]) == [Path("out/clip.mp4")]
    assert plan_paths("clip.mp4", [request(), request()]) == [
        Path("clip-1.mp4"),
        Path("clip-2.mp4"),
    ]


def test_a_directorys_files_are_named_after_prompt_and_seed() -> None:
    requests = [request("A Fox!"), request("A Fox!", num_frames=1, seed=2), request("狐")]

    assert plan_paths("out.d", requests) == [
        Path("out.d/a-fox-1.mp4"),
        Path("out.d/a-fox-2.png"),
        Path("out.d/output-1.mp4"),
    ]


def test_no_two_outputs_share_a_file() -> None:
    assert plan_paths("out", [request(), request()]) == [
        Path("out/a-fox-1.mp4"),
        Path("out/a-fox-1-2.mp4"),
    ]


def test_in_a_folder_no_earlier_file_is_written_over(tmp_path: Path) -> None:
    first, second = tmp_path / "a-fox-1.mp4", tmp_path / "a-fox-1-2.mp4"
    assert plan_paths(tmp_path, [request()]) == [first]
    first.touch()
    assert plan_paths(tmp_path, [request()]) == [second]
    second.touch()
    assert plan_paths(tmp_path, [request(), request(seed=2), request()]) == [
        tmp_path / "a-fox-1-3.mp4",
        tmp_path / "a-fox-2.mp4",
        tmp_path / "a-fox-1-4.mp4",
    ]


def test_a_prompt_leads_to_no_other_directory() -> None:
    (path,) = plan_paths("out", [request("../../etc/passwd\0 " + "x" * 300)])

    assert path.parent == Path("out")
    assert len(path.name) < 80


def test_a_suffix_that_does_not_fit_is_refused() -> None:
    with pytest.raises(RequestError, match=r"must end in \.png"):
        plan_paths("clip.mp4", [request(num_frames=1)])


@pytest.mark.parametrize("suffix", [".avi", ".MOV", ".mkv", ".gif", ".mp4a", ".webm", ".mpeg"])
def test_a_file_of_a_kind_that_is_not_written_is_refused_and_made_no_folder(suffix: str) -> None:
    with pytest.raises(
        RequestError,
        match=r"^output_path must end in one of \.mp4, .*\.webp or be a folder, which ",
    ):
        plan_paths(f"clip{suffix}", [request()])


def test_a_folder_that_is_there_may_be_called_anything(tmp_path: Path) -> None:
    (tmp_path / "all.clips").mkdir()
    names = {"all.clips", "Wan2.1", "out.d", "v1.20-final"}

    paths = [plan_paths(tmp_path / name, [request()])[0] for name in names]

    assert {path.parent.name for path in paths} == names


def test_folders_are_made_and_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "folder"
    make_folders([folder, folder, tmp_path])
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_made_or_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in (Path("/proc/none"), tmp_path / "file" / "below", Path("/proc")):
        with pytest.raises(RequestError, match=r"^output_path cannot be written: .*, got "):
            make_folders([folder])
