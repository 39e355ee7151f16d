"""The clients that people have: OpenAI's SDK as it is, LiteLLM's, the guide's own script."""

from __future__ import annotations

import base64
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import util
from pathlib import Path

import httpx
import openai
import pytest
import requests
from openai import OpenAI
from pydantic import SecretStr

from jobs.artifacts import ArtifactStore, open_artifacts
from jobs.keys import Keys, Rights
from jobs.settings import Settings
from jobs.states import State
from jobs.store import JobStore
from jobs.workers import Workers
from tests.api.serving import gang_at_work, serving
from tests.api.worker import announce

PROMPT = "a red circle moving right on a black background"

# The SDK calls its whole videos API deprecated since OpenAI is to shut its own service down.
pytestmark = pytest.mark.filterwarnings("ignore:The Sora API:DeprecationWarning")


@dataclass(frozen=True)
class Service:
    url: str
    key: str
    video: bytes
    image: bytes


@pytest.fixture
def settings(settings: Settings) -> Settings:
    secret = SecretStr("whsec_" + base64.b64encode(b"0" * 32).decode())
    return settings.model_copy(update={"webhook_secret": secret})


@pytest.fixture
def service(
    settings: Settings, store: JobStore, workers: Workers, tmp_path: Path
) -> Iterator[Service]:
    """The API with keys on, and a gang at work."""
    files = {"video": tmp_path / "clip.mp4", "image": tmp_path / "image.png"}
    for file in files.values():
        file.write_bytes(os.urandom(300_000))
    announce(workers)
    _, key = Keys(store).create("ann", Rights())
    artifacts: ArtifactStore = open_artifacts(settings)
    with serving(settings, tmp_path / "log") as server, gang_at_work(store, artifacts, files):
        yield Service(server.url, key, files["video"].read_bytes(), files["image"].read_bytes())


@pytest.fixture
def client(service: Service) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"{service.url}/v1", api_key=service.key) as client:
        yield client


def test_openais_sdk_makes_watches_downloads_lists_and_deletes(
    client: OpenAI, service: Service
) -> None:
    queued = client.videos.create(prompt=PROMPT, model="tiny", seconds="4", size="720x1280",
        extra_body={"size": "128x128"})  # fmt: skip
    assert queued.status in ("queued", "in_progress", "completed")
    video = client.videos.create_and_poll(prompt=PROMPT, extra_body={"seed": 7, "num_frames": 9})
    assert (video.status, video.progress, video.model, video.size) == (
        "completed", 100, "tiny", "128x128"
    )  # fmt: skip
    assert client.videos.download_content(video.id).read() == service.video
    remix = client.videos.remix(video.id, prompt="a blue square")
    assert remix.remixed_from_video_id == video.id
    assert client.videos.poll(remix.id).status == "completed"
    assert client.videos.retrieve(remix.id).prompt == "a blue square"
    listed = [each.id for each in client.videos.list(limit=1)]
    assert listed == [remix.id, video.id, queued.id], "pages follow by themselves"
    assert client.videos.delete(remix.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.videos.retrieve(remix.id)


def test_openais_sdk_sends_objects_and_lists(
    client: OpenAI, store: JobStore, service: Service
) -> None:
    """As fields of a form, for it has no other way to create a video."""
    extra = {
        "metadata": {"shot": "12 b", "take": "3"},
        "webhook_url": "https://example.com/hook",
        "webhook_events": ["video.completed", "video.failed"],
        "extra_body": {"seed": 7},
    }
    made = client.videos.create(prompt=PROMPT, extra_body=extra)
    assert made.model_extra is not None
    assert (made.model_extra["metadata"], made.model_extra["seed"]) == (extra["metadata"], 7)
    job = store.get(made.id)
    assert job.webhook_url == extra["webhook_url"]
    assert job.webhook_events == (State.COMPLETED, State.FAILED)


def test_openais_sdk_makes_images(client: OpenAI, service: Service) -> None:
    answer = client.images.generate(prompt=PROMPT, model="tiny", n=1, size="auto",
        response_format="b64_json", quality="hd", user="someone")  # fmt: skip
    assert answer.data is not None
    assert base64.b64decode(answer.data[0].b64_json or "") == service.image
    linked = client.images.generate(prompt=PROMPT)
    assert linked.data is not None
    headers = {"authorization": f"Bearer {service.key}"}
    assert httpx.get(linked.data[0].url or "", headers=headers).content == service.image


def test_openais_sdk_raises_its_typed_errors(client: OpenAI, service: Service) -> None:
    with pytest.raises(openai.BadRequestError) as bad:
        client.videos.create(prompt="")
    assert (bad.value.param, bad.value.code) == ("prompt", "invalid_value")
    with pytest.raises(openai.NotFoundError) as missing:
        client.videos.create(prompt=PROMPT, model="sora-2")
    assert missing.value.code == "model_not_found"
    failed = client.videos.create_and_poll(prompt="fail, please")
    assert failed.status == "failed"
    assert failed.error is not None
    assert failed.error.code == "error"
    with pytest.raises(openai.InternalServerError):
        client.images.generate(prompt="fail, please")
    with pytest.raises(openai.ConflictError):
        client.post(f"/videos/{failed.id}/cancel", cast_to=object)
    stranger = OpenAI(base_url=f"{service.url}/v1", api_key="EMPTY")
    with stranger, pytest.raises(openai.AuthenticationError):
        stranger.videos.list()


def test_the_guides_client_works_with_address_size_frames_and_steps_changed(
    service: Service,
) -> None:
    """Appendix A.3 of the guide, in our words; with a key, which the guide's service has not."""

    def generate_video(prompt: str, server_url: str) -> dict[str, object] | None:
        endpoint = f"{server_url}/v1/videos/generations"
        payload = {
            "prompt": prompt,
            "num_frames": 17,
            "height": 128,
            "width": 128,
            "num_inference_steps": 4,
            "guidance_scale": 7.5,
            "seed": 42,
        }
        response = requests.post(
            endpoint,
            headers={
                "Content-Type": "application/json",
                "Authorization": f"Bearer {service.key}",
            },
            json=payload,
            timeout=90,
        )
        if response.status_code == 200:
            result: dict[str, object] = response.json()
            return result
        return None

    result = generate_video("A curious raccoon peers through sunflowers", service.url)
    assert result is not None
    assert str(result["id"]).startswith("video_")
    assert result["status"] in ("queued", "in_progress", "completed")
    assert result["seed"] == 42


LITELLM = """
import sys
import litellm
base = {"api_base": sys.argv[1] + "/v1", "api_key": sys.argv[2], "custom_llm_provider": "openai"}
video = litellm.video_generation(prompt="a red circle", model="openai/tiny", **base)
status = "queued"
while status in ("queued", "in_progress"):
    status = litellm.video_status(video_id=video.id, **base).status
assert status == "completed", status
sys.stdout.buffer.write(litellm.video_content(video_id=video.id, **base))
"""


@pytest.mark.skipif(util.find_spec("litellm") is None, reason="litellm is not installed")
def test_litellm_speaks_to_us(service: Service) -> None:
    """In a process of its own: its import warns, takes seconds and would fetch a price list."""
    run = subprocess.run(
        [sys.executable, "-c", LITELLM, service.url, service.key],
        env=os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        capture_output=True,
        timeout=180,
        check=False,
    )
    assert run.returncode == 0, run.stderr.decode()
    assert run.stdout == service.video
