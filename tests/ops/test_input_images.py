"""OpenAI's SDK as it is sends images to real gangs: one stack, a worker that animates, one that edits."""

from __future__ import annotations

import base64
import io
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import openai
import pytest
from openai import OpenAI
from PIL import Image

from ops.local import LocalService
from ops.stack.child import bound
from ops.stack.home import running
from tests.fixtures.pictures import data_url, noise
from tests.fixtures.waiting import wait_for

pytestmark = [
    pytest.mark.timeout(240),
    # The SDK calls its whole videos API deprecated since OpenAI is to shut its own service down.
    pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning"),
]

START_S = 180.0
SMALL = {"size": "64x64", "num_frames": 5, "num_inference_steps": 2, "seed": 1}


@dataclass(frozen=True)
class Stack:
    client: OpenAI

    def video(self, image: bytes | None, **more: object) -> openai.types.Video:
        """A finished video, from `image`."""
        return self.client.videos.create_and_poll(
            prompt="a wall",
            model="wan",
            poll_interval_ms=100,
            extra_body=SMALL | more,
            **({} if image is None else {"input_reference": ("wall.png", image)}),  # type: ignore[arg-type]
        )

    def content(self, video: openai.types.Video) -> bytes:
        assert video.status == "completed", video.error
        return self.client.videos.download_content(video.id).read()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, tiny_families: Path) -> Iterator[Stack]:
    home = tmp_path_factory.mktemp("images") / "home"
    one = ["--num-gpus", "1", "--device", "cpu"]
    animates = ["--model-path", str(tiny_families / "wan_i2v"), "--served-model-name", "wan"]
    edits = ["--model-path", str(tiny_families / "flux2_distilled"), "--served-model-name", "flux"]
    with LocalService(home, [*animates, *one]) as service:
        wait_for(lambda: running(home), "the service is there", timeout_s=START_S)
        run = running(home)
        assert run is not None
        env = {**os.environ, "RUSHES_HOME": str(home), "RUSHES_REDIS_URL": run.redis_url}
        command = [sys.executable, "-m", "ops.cli", "worker", *edits, *one]
        with (home / "flux.out").open("wb") as output:
            worker = subprocess.Popen(
                bound(command), env=env, stdout=output, stderr=output, start_new_session=True
            )
        service.wait_ready(START_S)
        with OpenAI(base_url=f"{service.url}/v1", api_key="EMPTY", max_retries=0) as client:

            def both_ready() -> bool:
                assert worker.poll() is None, (home / "flux.out").read_text()
                return sum(model.model_extra["live_gangs"] for model in client.models.list()) == 2  # type: ignore[index]

            wait_for(both_ready, "both gangs are ready", timeout_s=START_S)
            yield Stack(client)
        worker.kill()
        worker.wait()


def test_a_video_begins_with_its_image(stack: Stack) -> None:
    video = stack.video(noise(1))
    one, same = stack.content(video), stack.content(stack.video(noise(1)))
    assert one == same
    assert one != stack.content(stack.video(noise(2)))
    linked = stack.video(None, input_reference={"image_url": data_url(noise(1))})
    assert stack.content(linked) == one

    remix = stack.client.videos.remix(video.id, prompt="a fence")
    assert stack.client.videos.poll(remix.id, poll_interval_ms=100).status == "completed"

    with pytest.raises(openai.BadRequestError) as needed:
        stack.video(None)
    assert needed.value.param == "input_reference"


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_an_image_that_breaks_off_fails_its_job_by_name_and_the_gang_lives(
    stack: Stack, kind: str
) -> None:
    whole = noise(3, kind)
    failed = stack.video(whole[: len(whole) // 2])
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.code == "invalid_request"
    assert failed.error.message.startswith("image cannot be read")
    assert stack.video(whole).status == "completed"


def test_an_image_is_made_of_others(stack: Stack) -> None:
    def edit(*images: bytes) -> bytes:
        files = [(f"{number}.png", image) for number, image in enumerate(images)]
        answer = stack.client.images.edit(
            image=files if len(files) > 1 else files[0],
            prompt="both at once",
            model="flux",
            size="64x64",
            response_format="b64_json",
            extra_body={"seed": 1, "num_inference_steps": 2},
        )
        assert answer.data is not None
        return base64.b64decode(answer.data[0].b64_json or "")

    one, two = edit(noise(1)), edit(noise(1), noise(2))
    assert Image.open(io.BytesIO(one)).size == (64, 64)
    assert one != two
    assert edit(noise(1)) == one
    with pytest.raises(
        openai.BadRequestError, match="may be given at most 4 times with flux, got 5"
    ):
        edit(*map(noise, range(5)))
