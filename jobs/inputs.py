"""A job's input images in the artifact store: there before the job is, gone with it.

They lie under `jobs/<id>/inputs/`, named as in the request. The sweep knows of them before the first
is stored; the script that makes the job strikes them there. So a create that is refused, and one whose
process dies in the middle, leaves nothing behind.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from jobs.artifacts import ArtifactStore
from jobs.errors import NotFound
from jobs.images import InputImage, check_image
from jobs.record import Job
from jobs.store import JobStore
from pipeline.inputs import names_of
from pipeline.limits import ModelCard
from pipeline.request import INPUTS


def input_key(job_id: str, name: str) -> str:
    """Where a job's input image lies."""
    return f"jobs/{job_id}/{INPUTS}/{name}"


def put_inputs(
    store: JobStore, artifacts: ArtifactStore, job_id: str, images: Sequence[InputImage]
) -> None:
    """Store the input images of a job that is about to be submitted, under `names_of(images)`.

    Raises:
        StorageUnavailable, StoreUnavailable: nothing of it will stay.
    """
    store.expect_inputs(job_id)
    with tempfile.NamedTemporaryFile() as file:
        for name, image in zip(names_of(images), images, strict=True):
            file.seek(0)
            file.truncate()
            file.write(image.data)
            file.flush()
            artifacts.put(input_key(job_id, name), Path(file.name), image.content_type)


def get_inputs(artifacts: ArtifactStore, job: Job, card: ModelCard) -> tuple[InputImage, ...]:
    """A job's input images, for another job that takes its request.

    Raises:
        NotFound: the job was deleted meanwhile.
        StorageUnavailable: the store does not answer.
    """
    images = []
    for name in job.request.images:
        try:
            with closing(artifacts.read(input_key(job.id, name))) as chunks:
                data = b"".join(chunks)
        except NotFound:
            raise NotFound(f"the input images of {job.id} are gone") from None
        images.append(check_image(data, "image", card))
    return tuple(images)
