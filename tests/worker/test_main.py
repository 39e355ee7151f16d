"""The worker end to end: real gang, real Redis, real Celery, a relay that releases."""

from __future__ import annotations

import base64
import io
import os
import signal
import time
from pathlib import Path

import av
from PIL import Image

from jobs.admin import Admin
from jobs.celery_app import make_celery, send
from jobs.record import Job, new_id
from jobs.states import State
from pipeline.request import Params, resolve
from tests.fixtures.waiting import wait_for
from tests.worker.conftest import Stack, start_worker


def attempts(stack: Stack) -> list[Path]:
    """The files that attempts left on the worker's disk."""
    return [
        path for path in stack.settings.home_path.glob("attempts/*/video_*/*") if path.is_file()
    ]


def test_a_worker_tells_what_it_is_and_stays_light(stack: Stack) -> None:
    info = stack.worker.info

    assert info.pid == stack.process.pid
    assert (info.state, info.platform, info.backend) == ("ready", "cpu", "gloo")
    assert info.names[0] == "tiny"
    assert len(info.devices) == 2
    status = Path(f"/proc/{info.pid}/status").read_text()
    (rss_kib,) = [int(line.split()[1]) for line in status.splitlines() if "VmRSS" in line]
    assert rss_kib < 120 * 1024


def test_a_job_becomes_a_video_on_storage(stack: Stack) -> None:
    job = stack.wait_completed(stack.submit(num_frames=13))

    artifact, thumbnail, spritesheet = job.artifacts
    assert [picture.kind for picture in job.artifacts] == ["video", "thumbnail", "spritesheet"]
    for picture, form in ((thumbnail, "WEBP"), (spritesheet, "JPEG")):
        with Image.open(io.BytesIO(b"".join(stack.artifacts.read(picture.key)))) as image:
            assert (image.format, image.size) == (form, (picture.width, picture.height))
            assert picture.content_type == f"image/{form.lower()}"
    assert artifact.key == f"jobs/{job.id}/{job.fence}/video.mp4"
    content = b"".join(stack.artifacts.read(artifact.key))
    assert len(content) == artifact.size_bytes
    with av.open(io.BytesIO(content), "r") as container:
        assert sum(1 for _ in container.decode(video=0)) == artifact.num_frames == 13
    assert (job.attempt, job.failures) == (1, 0)
    assert job.usage is not None
    assert job.usage.device_s > job.usage.timings_s["denoising"] > 0
    assert job.usage.peak_memory_bytes > 0
    wait_for(lambda: not attempts(stack), "the attempt's files are gone")
    wait_for(lambda: "task-succeeded" in stack.seen(job), "Flower sees it end")


def test_one_frame_becomes_an_image(stack: Stack) -> None:
    job = stack.wait_completed(stack.submit(num_frames=1))

    (artifact,) = job.artifacts
    assert (artifact.kind, artifact.content_type) == ("image", "image/png")
    assert artifact.key.endswith("/image.png")
    assert b"".join(stack.artifacts.read(artifact.key)).startswith(b"\x89PNG")


def test_a_job_with_an_image_and_several_outputs_has_a_file_for_each(
    stack: Stack, tmp_path: Path
) -> None:
    file = tmp_path / "fox.png"
    Image.new("RGB", (80, 60), "red").save(file)
    job = stack.wait_completed(stack.submit(images={"fox.png": file}, num_outputs=2))

    videos = [artifact for artifact in job.artifacts if artifact.kind == "video"]
    assert [video.key.rpartition("/")[2] for video in videos] == ["video-1.mp4", "video-2.mp4"]
    assert [video.seed for video in videos] == [1, 2]
    assert len(job.artifacts) == 6
    again = stack.wait_completed(stack.submit(images={"fox.png": file}, seed=2))
    assert again.artifacts[0].sha256 == videos[1].sha256
    assert job.progress is not None
    assert job.progress.items == 2
    assert job.usage is not None


def test_an_input_image_that_is_gone_or_no_image_fails_the_job_at_once(
    stack: Stack, tmp_path: Path
) -> None:
    file = tmp_path / "fox.png"
    file.write_text("a fox")
    broken = stack.submit(images={"fox.png": file})
    # Refused in the ranks, by name; a request that names an image which was never stored, before.
    gone = broken.model_copy(update={"id": new_id(), "created_at": time.time()})
    stack.store.expect_inputs(gone.id)
    stack.store.submit(gone)

    for failing, code in ((broken, "invalid_request"), (gone, "input_missing")):
        job = stack.wait(failing, lambda job: job.state.terminal, "the job ends")
        assert (job.state, job.failures) == (State.FAILED, 0)
        assert job.error is not None
        assert job.error.code == code
    stack.wait_completed(stack.submit())


def test_what_the_model_refuses_fails_the_job_at_once(stack: Stack) -> None:
    good = resolve(Params(prompt="a fox"), stack.workers.card("tiny"))
    request = good.model_copy(update={"num_frames": 10})

    job = stack.store.submit(Job(id=new_id(), owner="me", request=request, created_at=time.time()))
    job = stack.wait(job, lambda job: job.state.terminal, "the job ends")

    assert (job.state, job.attempt, job.failures) == (State.FAILED, 1, 0)
    assert job.error is not None
    assert job.error.code == "invalid_request"
    assert "num_frames" in job.error.message
    wait_for(lambda: not stack.worker.gang_attempt, "the gang is free")
    wait_for(lambda: "task-failed" in stack.seen(job), "Flower sees it end")


def test_progress_reaches_the_record_and_a_cancel_reaches_the_gang(stack: Stack) -> None:
    pids = stack.pids
    job = stack.wait_denoising(stack.submit(num_inference_steps=500))
    assert job.progress is not None
    assert 1 <= job.progress.step < job.progress.steps == 500
    wait_for(lambda: stack.store.preview(stack.store.get(job.id)), "a preview")
    shown = base64.b64decode(stack.store.preview(stack.store.get(job.id)) or "")
    with Image.open(io.BytesIO(shown)) as preview:
        assert (preview.format, preview.size) == ("WEBP", (320, 320)), "8x8 latent pixels"

    stack.store.cancel(job.id)
    wait_for(lambda: not stack.worker.gang_attempt, "the gang stops", timeout_s=60)

    assert stack.pids == pids, "the gang stays warm"
    assert stack.store.get(job.id).state is State.CANCELLED
    wait_for(lambda: not stack.worker.attempts, "nothing is held")
    wait_for(lambda: "task-revoked" in stack.seen(job), "Flower sees it end")
    stack.wait_completed(stack.submit())
    assert stack.pids == pids


def test_a_doubled_message_runs_nothing_twice(stack: Stack) -> None:
    job = stack.wait_denoising(stack.submit(num_inference_steps=50))

    with make_celery(stack.settings) as app:
        send(app, job.id, job.model, job.release)
    refused = f"claim refused job={job.id}"
    wait_for(lambda: refused in stack.log.read_text(), "the second message is refused")
    wait_for(lambda: stack.seen(job).count("task-received") == 2, "it is delivered twice")
    assert stack.flower_state(job) == "STARTED"
    job = stack.wait_completed(job)
    wait_for(lambda: stack.flower_state(job) == "SUCCESS", "Flower sees it end")
    with make_celery(stack.settings) as app:
        send(app, job.id, job.model, job.release)
    wait_for(lambda: stack.seen(job).count("task-succeeded") == 2, "it is told again")

    assert stack.flower_state(job) == "SUCCESS"
    assert stack.store.get(job.id).attempt == 1


def test_flowers_revoke_cancels_the_job_and_bars_no_id(stack: Stack) -> None:
    job = stack.wait_denoising(stack.submit(num_inference_steps=200))

    with make_celery(stack.settings) as app:
        app.control.revoke(job.id, terminate=True)
        wait_for(lambda: stack.store.get(job.id).state is State.CANCELLED, "it is cancelled")
        wait_for(lambda: stack.flower_state(job) == "REVOKED", "Flower sees it end")
        wait_for(lambda: not stack.worker.attempts, "nothing is held")
        revoked = app.control.inspect(timeout=20, limit=1).revoked()
        refused = app.control.revoke("video_none", reply=True, timeout=20, limit=1)
    assert revoked is not None
    assert list(revoked.values()) == [[]]
    assert [list(answer.values()) for answer in refused] == [[{"error": "no job 'video_none'"}]]


def test_a_drained_worker_hands_its_job_back_and_has_it_again_once_undrained(
    stack: Stack,
) -> None:
    admin, pids, worker_id = Admin(stack.store), stack.pids, stack.worker.info.id
    job = stack.wait_denoising(stack.submit(num_inference_steps=200))

    admin.drain(worker_id, hand_back=True)
    wait_for(lambda: not stack.worker.attempts, "nothing is held", timeout_s=60)
    assert stack.store.get(job.id).state is State.QUEUED
    assert stack.worker.info.state == "draining"
    wait_for(lambda: "takes no more jobs" in stack.log.read_text(), "it does not listen")

    admin.undrain(worker_id)
    again = stack.wait_completed(job)
    assert (again.attempt, again.failures, again.lost) == (2, 0, 0)
    assert again.resumed is not None
    assert again.resumed.step > 0, "it went on where it was stopped"
    assert stack.pids == pids
    wait_for(lambda: stack.flower_state(job) == "SUCCESS", "Flower sees it end")


def test_a_rank_killed_under_a_job_costs_a_try_and_no_more(stack: Stack) -> None:
    pids = stack.pids
    whole = stack.wait_completed(stack.submit(num_inference_steps=150))
    job = stack.wait(
        stack.submit(num_inference_steps=150), lambda job: job.checkpoint, "it has a checkpoint"
    )
    kept = job.checkpoint
    assert kept is not None

    os.kill(pids[1], signal.SIGKILL)
    resumed = stack.wait(job, lambda job: job.resumed, "it goes on").resumed
    job = stack.wait_completed(job)

    assert (job.attempt, job.failures, job.lost) == (2, 1, 0)
    assert resumed is not None
    assert resumed.step >= kept.step > 0
    assert resumed.step % 10 == 0
    assert job.artifacts[0].sha256 == whole.artifacts[0].sha256
    assert job.checkpoint is None
    wait_for(lambda: stack.flower_state(job) == "SUCCESS", "Flower sees it end")
    assert "task-failed" not in stack.seen(job)
    assert stack.seen(job).count("task-retried") == 1
    assert not set(stack.pids) & set(pids)
    assert stack.worker.info.restarts == 1


def test_an_idle_gangs_death_is_seen_and_made_good(stack: Stack) -> None:
    pids = stack.pids

    os.kill(pids[0], signal.SIGKILL)
    wait_for(lambda: not stack.is_ready(), "the death is announced", timeout_s=60)
    wait_for(stack.is_ready, "the gang is back", timeout_s=180)

    assert not set(stack.pids) & set(pids)
    stack.wait_completed(stack.submit())


def test_a_gang_that_does_not_stop_a_cancelled_job_is_killed(stack: Stack) -> None:
    pids = stack.pids
    job = stack.wait_denoising(stack.submit(num_inference_steps=500))

    os.kill(pids[1], signal.SIGSTOP)
    stack.store.cancel(job.id)
    wait_for(lambda: not stack.worker.gang_attempt, "the gang is given up", timeout_s=60)

    assert stack.store.get(job.id).state is State.CANCELLED
    assert "killing the gang" in stack.log.read_text()
    wait_for(stack.is_ready, "the gang is back", timeout_s=180)
    assert not set(stack.pids) & set(pids)


def test_an_upload_that_fails_is_tried_again_without_the_gang(stack: Stack) -> None:
    folder = stack.settings.home_path / "artifacts"
    aside = folder.with_name("aside")
    folder.rename(aside)
    folder.write_text("in the way")

    job = stack.submit(num_inference_steps=2)
    job = stack.wait(job, lambda job: job.progress and job.progress.stage == "storing", "storing")
    wait_for(lambda: "cannot store yet" in stack.log.read_text(), "storing fails")
    assert not stack.worker.gang_attempt, "the gang is free while a job is stored"
    assert stack.worker.attempts == {f"{job.id}/{job.fence}"}
    other = stack.submit(num_inference_steps=2)
    stack.wait(other, lambda job: job.progress and job.progress.stage == "storing", "storing")
    stack.store.cancel(other.id)
    wait_for(lambda: len(stack.worker.attempts) == 1, "the slot of the cancelled one is free")
    folder.unlink()
    aside.rename(folder)

    assert stack.wait_completed(job).attempt == 1


def test_a_run_outlives_an_outage_of_redis(stack: Stack) -> None:
    job = stack.wait_denoising(stack.submit(num_inference_steps=150))

    stack.server.kill()
    stack.server.start()
    job = stack.wait_completed(job)

    assert (job.attempt, job.failures, job.lost) == (1, 0, 0)
    stack.wait_completed(stack.submit())


def test_a_long_job_makes_room_for_a_higher_priority_and_goes_on_behind_it(stack: Stack) -> None:
    pids = stack.pids
    stack.wait_completed(stack.submit(num_inference_steps=2))  # from which its length is told
    long = stack.wait_denoising(
        stack.submit(num_inference_steps=500, size="128x128", num_frames=33)
    )

    urgent = stack.wait_completed(stack.submit(num_inference_steps=2, priority=5))
    long = stack.wait(long, lambda job: job.resumed, "it goes on")

    assert (long.attempt, long.failures, long.lost) == (2, 0, 0)
    assert long.started_at is not None
    assert urgent.started_at is not None
    assert urgent.started_at < long.started_at
    assert long.resumed is not None
    assert long.resumed.step > 0
    assert stack.pids == pids, "the gang stays warm"
    stack.store.cancel(long.id)


def test_sigterm_hands_the_running_job_back_at_a_checkpoint_and_leaves_nothing(
    stack: Stack, tiny_families: Path
) -> None:
    worker_id, pids = stack.worker.info.id, stack.pids
    job = stack.wait_denoising(stack.submit(num_inference_steps=500, size="128x128", num_frames=33))

    began = time.monotonic()
    stack.process.send_signal(signal.SIGTERM)
    stack.process.send_signal(signal.SIGINT)
    stack.process.send_signal(signal.SIGTERM)
    code = stack.process.wait(timeout=60)

    log = stack.log.read_text()
    assert code == 0, log
    assert time.monotonic() - began < stack.settings.drain_s + 5, log
    job = stack.store.get(job.id)
    assert (job.state, job.attempt, job.failures, job.lost) == (State.QUEUED, 1, 0, 0)
    assert job.progress is None
    assert stack.workers.live() == ()
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)
    assert not (stack.settings.home_path / "attempts" / worker_id).exists()
    assert job.checkpoint is not None
    assert job.checkpoint.step > 0

    stack.process = start_worker(stack.settings, tiny_families / "wan_ti2v", stack.log)
    again = stack.wait(job, lambda job: job.resumed, "the next worker goes on")
    assert again.resumed is not None
    assert (again.resumed.step, again.resumed.refused) == (job.checkpoint.step, "")
    assert again.attempt == 2
    stack.store.cancel(job.id)
