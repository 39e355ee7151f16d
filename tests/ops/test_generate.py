import io
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import av
import pytest

from ops.generate import Together, all_prompts, run_generate
from ops.options import Refused
from pipeline.gang.protocol import Progress
from pipeline.limits import RequestError
from pipeline.options import EngineOptions

pytestmark = pytest.mark.timeout(180)


def test_makes_numbered_outputs_and_says_what_they_are(tmp_path: Path, tiny_wan: Path) -> None:
    command = [sys.executable, "-m", "ops.cli", "generate", "--model-path", str(tiny_wan)]
    (tmp_path / "prompts.txt").write_text("\n  a dog \n\n")
    command += ["--prompt", "a cat", "--prompt-file", str(tmp_path / "prompts.txt")]
    command += ["--num-frames", "5", "--width", "32", "--height", "48"]
    command += ["--fps", "10", "--num-inference-steps", "2", "--guidance-scale", "1"]
    command += ["--seed", "5", "--num-outputs", "2", "--output-path", str(tmp_path / "cat.mp4")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 4  # both outputs of the first prompt, then those of the second
    for number, line in enumerate(lines, start=1):
        file = tmp_path / f"cat-{number}.mp4"
        assert line.startswith(f"{file}: 5 frames, 32x48, 10 fps, seed {6 - number % 2}, ")
        with av.open(file, "r") as container:
            assert len(list(container.decode(video=0))) == 5
    assert "INFO" not in done.stderr  # the ranks keep quiet under a progress bar


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--workload-type", "i2v"], 2, "{model} knows t2v, t2i, not i2v"),
        (["--workload-type", "silly"], 2, "Invalid value for '--workload-type': 'silly' is not"),
        (
            ["--model-path", "own/none"],
            1,
            "there is no directory own/none here, and the hub does not answer",
        ),
    ],
    ids=["not of this model", "of no model", "nowhere here"],
)
def test_what_the_user_has_wrong_is_one_line_without_a_traceback(
    tiny_wan: Path, arguments: list[str], code: int, words: str
) -> None:
    command = [sys.executable, "-m", "ops.cli", "generate", "--prompt", "a cat", "--device", "cpu"]
    command += ["--num-gpus", "1"]
    command += ["--model-path", str(tiny_wan), *arguments]
    environ = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    said = [line for line in done.stderr.splitlines() if line]
    assert done.returncode == code
    assert said[-1].startswith(f"rushes: {words.format(model=tiny_wan.name)}")
    assert "Traceback" not in done.stderr


def test_prompts_come_from_a_file_or_from_stdin(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text("a dog\n\n  ein Füchslein\r\n", "utf-8")
    assert all_prompts(["a cat"], file) == ["a cat", "a dog", "ein Füchslein"]
    monkeypatch.setattr("sys.stdin", io.StringIO("a bird\n"))
    assert all_prompts([], Path("-")) == ["a bird"]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read: .*No such file"),
        (b"\xff\xfe", "cannot be read: .*utf-8"),
        (b"\n \n", "^no prompt: give --prompt, or a --prompt-file"),
    ],
)
def test_a_file_without_prompts_is_refused(
    tmp_path: Path, content: bytes | None, words: str
) -> None:
    file = tmp_path / "prompts.txt"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(Refused, match=words):
        all_prompts([], file)


def test_a_value_outside_the_models_limits_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def generate(*_: object, **values: object) -> None:
        raise RequestError("num_frames", values["num_frames"], "4k+1, such as 9 or 13")

    loaded = MagicMock()
    loaded.return_value.__enter__.return_value.generate = generate
    monkeypatch.setattr("ops.generate.DiffGenerator", loaded)
    with pytest.raises(Refused, match=r"num_frames .*4k\+1, such as 9 or 13, got 10"):
        run_generate(
            EngineOptions(model_path="m"),
            ["a cat"],
            save_output=True,
            output_path=tmp_path,
            num_outputs=1,
            num_frames=10,
        )


def test_a_file_of_a_kind_that_is_never_written_is_refused_before_the_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded = MagicMock()
    monkeypatch.setattr("ops.generate.DiffGenerator", loaded)
    with pytest.raises(Refused, match=r"^output_path must end in one of \.mp4, .*, got 'x\.avi'$"):
        run_generate(
            EngineOptions(model_path="m"),
            ["a cat"],
            save_output=True,
            output_path=Path("x.avi"),
            num_outputs=1,
        )
    loaded.assert_not_called()


def test_several_outputs_add_up_to_one_progress() -> None:
    shown: list[tuple[str, float]] = []

    def show(words: str, percent: float = 0.0) -> None:
        shown.append((words, percent))

    together = Together(2, show)
    for index, stage, step, steps in (
        (0, "TextEncoding", 1, 1),
        (0, "Denoising", 2, 4),
        (1, "Denoising", 4, 4),
        (0, "Decoding", 3, 3),
        (1, "Decoding", 3, 3),
    ):
        together(index, Progress(run_id="r", item=0, stage=stage, step=step, steps=steps))
    assert [round(percent, 1) for _, percent in shown] == [0, 22.5, 67.5, 95, 100]
    assert shown[1][0] == "output 1 of 2, denoising: step 2 of 4"
