"""DiffGenerator on two gangs of the tiny model."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from pipeline import DiffGenerator, GenerationError, Output
from pipeline.gang.protocol import Progress
from pipeline.limits import RequestError
from tests.fixtures.waiting import wait_for


@pytest.fixture(scope="module")
def others() -> frozenset[int]:
    """Ranks that this process has of other tests."""
    return frozenset(ranks_of(os.getpid()))


@pytest.fixture(scope="module")
def generator(tiny_wan: Path, others: frozenset[int]) -> Iterator[DiffGenerator]:
    with DiffGenerator.from_pretrained(tiny_wan, num_gpus=2, dp_size=2, device="cpu") as generator:
        yield generator


def one(output: Output | list[Output]) -> Output:
    assert not isinstance(output, list)
    return output


def several(outputs: Output | list[Output]) -> list[Output]:
    assert isinstance(outputs, list)
    return outputs


def count_frames(path: str) -> int:
    with av.open(path) as container:
        return sum(1 for _ in container.decode(video=0))


def ranks_of(pid: int) -> list[int]:
    """The rank processes that this process started."""
    children = Path(f"/proc/{pid}/task").glob("*/children")
    pids = [int(child) for file in children for child in file.read_text().split()]
    return [
        pid for pid in pids if b"pipeline.gang.rank" in Path(f"/proc/{pid}/cmdline").read_bytes()
    ]


def test_the_layout_and_the_card_are_told(generator: DiffGenerator) -> None:
    assert (generator.layout.dp, generator.layout.gang_size) == (2, 1)
    assert generator.card.num_frames == 9


def test_one_prompt_gives_one_output(generator: DiffGenerator, tmp_path: Path) -> None:
    file = tmp_path / "new" / "clip.mp4"
    seen: list[tuple[int, Progress]] = []

    output = one(
        generator.generate(
            "a fox",
            output_path=file,
            return_frames=True,
            on_progress=lambda index, progress: seen.append((index, progress)),
            num_inference_steps=2,
            seed=1,
        )
    )

    assert output["output_path"] == str(file)
    assert count_frames(str(file)) == output["num_frames"] == 9
    assert output["frames"].dtype == np.uint8
    assert output["frames"].shape == (9, 64, 64, 3)
    assert output["seed"] == 1
    assert output["timings"]["denoising"] < output["timings"]["total"]
    assert {index for index, _ in seen} == {0}
    assert [p.step for _, p in seen if p.stage == "denoising" and p.step] == [1, 2]
    assert list(file.parent.iterdir()) == [file]


def test_several_outputs_come_prompt_by_prompt_with_seeds_that_count_up(
    generator: DiffGenerator, tmp_path: Path
) -> None:
    outputs = several(
        generator.generate(
            ["a fox", "an owl"], num_outputs=2, output_path=tmp_path, num_inference_steps=2, seed=1
        )
    )

    assert [(output["prompt"], output["seed"]) for output in outputs] == [
        ("a fox", 1),
        ("a fox", 2),
        ("an owl", 1),
        ("an owl", 2),
    ]
    assert {path.name for path in tmp_path.iterdir()} == {
        "a-fox-1.mp4",
        "a-fox-2.mp4",
        "an-owl-1.mp4",
        "an-owl-2.mp4",
    }
    assert outputs[0]["frames"] is None


def test_a_seed_repeats_its_frames_on_any_gang_and_another_does_not(
    generator: DiffGenerator,
) -> None:
    outputs = several(
        generator.generate(
            ["a fox"] * 4, save_output=False, return_frames=True, num_inference_steps=2, seed=1
        )
    )
    other = one(
        generator.generate(
            "a fox", save_output=False, return_frames=True, num_inference_steps=2, seed=2
        )
    )

    assert outputs[0]["output_path"] is None
    for output in outputs[1:]:
        assert np.array_equal(output["frames"], outputs[0]["frames"])
    assert not np.array_equal(other["frames"], outputs[0]["frames"])


def test_one_frame_makes_an_image(generator: DiffGenerator, tmp_path: Path) -> None:
    output = one(
        generator.generate(
            "a fox", num_frames=1, output_path=tmp_path, num_inference_steps=2, seed=1
        )
    )

    assert output["output_path"] == str(tmp_path / "a-fox-1.png")
    assert Path(str(output["output_path"])).read_bytes().startswith(b"\x89PNG")


def test_an_output_that_fails_raises_after_the_others_are_saved(
    generator: DiffGenerator, tmp_path: Path
) -> None:
    (tmp_path / "clip-1.mp4").mkdir()

    with pytest.raises(
        GenerationError, match=r"1 of 2 outputs failed: 'a fox': .*directory"
    ) as info:
        generator.generate(
            ["a fox", "an owl"], output_path=tmp_path / "clip.mp4", num_inference_steps=2, seed=1
        )

    first, second = info.value.outputs
    assert first is None
    assert second is not None
    assert count_frames(str(second["output_path"])) == 9


def test_a_gang_that_dies_fails_its_output_and_comes_back(
    generator: DiffGenerator, others: frozenset[int], tmp_path: Path
) -> None:
    before = [pid for pid in ranks_of(os.getpid()) if pid not in others]
    assert len(before) == 2
    killed: list[int] = []

    def kill(index: int, progress: Progress) -> None:
        if progress.stage == "denoising" and progress.step and not killed:
            killed.append(index)
            os.kill(before[0], signal.SIGKILL)

    with pytest.raises(GenerationError, match=r"1 of 2 .* rank 0 was killed by SIGKILL"):
        generator.generate(
            ["a fox", "an owl"], num_inference_steps=50, output_path=tmp_path, on_progress=kill
        )
    outputs = several(
        generator.generate(["a fox", "an owl"], output_path=tmp_path, num_inference_steps=2, seed=1)
    )

    assert [output["num_frames"] for output in outputs] == [9, 9]
    wait_for(lambda: before[0] not in ranks_of(os.getpid()), "the dead rank is reaped")


@pytest.mark.parametrize(
    ("params", "field"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a fox", " "]}, "prompt"),
        ({"prompt": "a fox", "num_frames": 10}, "num_frames"),
        ({"prompt": "a fox", "width": 65}, "width"),
        ({"prompt": "a fox", "num_outputs": 0}, "num_outputs"),
        ({"prompt": "a fox", "seed": -1}, "seed"),
        ({"prompt": "a fox", "output_path": "clip.png"}, "output_path"),
        ({"prompt": "a fox", "output_path": "/proc/none/clip.mp4"}, "output_path"),
        ({"prompt": "a fox", "output_format": "webp"}, "output_format"),
        ({"prompt": "a fox", "guidance_scale_2": 2.0}, "guidance_scale_2"),
        ({"prompt": "a fox", "image": "fox.png"}, "image"),
    ],
)
def test_a_bad_value_is_refused_before_anything_runs(
    generator: DiffGenerator, tmp_path: Path, params: dict[str, object], field: str
) -> None:
    with pytest.raises(RequestError) as info:
        generator.generate(**{"output_path": tmp_path, **params})  # type: ignore[arg-type]

    assert info.value.field == field
    assert list(tmp_path.iterdir()) == []


def test_unknown_parameters_are_refused_by_name(generator: DiffGenerator) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'sedd'"):
        generator.generate("a fox", sedd=1)  # type: ignore[call-arg]


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP")])
def test_an_images_format_is_what_its_file_ends_in(
    generator: DiffGenerator, tmp_path: Path, suffix: str, kind: str
) -> None:
    file = tmp_path / f"fox{suffix}"
    generator.generate("a fox", num_frames=1, num_inference_steps=1, output_path=file)

    with Image.open(file) as image:
        assert (image.format, image.size) == (kind, (64, 64))


def test_an_unknown_option_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'gpus'"):
        DiffGenerator.from_pretrained("/none", gpus=1)  # type: ignore[call-arg]


SCRIPT = """
import sys
from pipeline import DiffGenerator

print(*[name for name in ("torch", "diffusers", "numpy", "av") if name in sys.modules], flush=True)
generator = DiffGenerator.from_pretrained(sys.argv[1], num_gpus=1, device="cpu")
generator.generate(
    "a fox",
    num_inference_steps=50,
    save_output=False,
    on_progress=lambda index, progress: print(progress.stage, flush=True),
)
"""


def test_ctrl_c_ends_a_script_and_its_ranks_and_no_torch_was_in_it(tiny_wan: Path) -> None:
    command = [sys.executable, "-c", SCRIPT, str(tiny_wan)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "\n", "it imported a model library"
        while process.stdout.readline() != "denoising\n":
            pass
        pids = ranks_of(process.pid)
        process.send_signal(signal.SIGINT)
        assert "KeyboardInterrupt" in process.stderr.read()

    assert len(pids) == 1
    wait_for(lambda: not Path(f"/proc/{pids[0]}").exists(), "the rank is gone")
