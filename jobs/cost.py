"""What a job is expected to cost: units of work, known from the request alone.

The seconds that so many units take are learned per model from finished jobs: the middle one of the last
five of each size (powers of two of units) is a point, and between points the scripts draw lines
(`expected` in scripts/prelude.lua). So a job costs what others of its size did, and what every job takes
once, such as its prompt's encoding, is not taken for work that grows with it. Of a job beyond four times
the largest nobody can tell: it has no time left to show, and no budget refuses it.
"""

from __future__ import annotations

from pipeline.request import Request


def work_units(request: Request) -> float:
    """Millions of output pixels, of all outputs, times denoising steps and branches (two with guidance)."""
    frames = request.num_frames * request.num_outputs
    megapixels = request.width * request.height * frames / 1e6
    branches = 2 if request.strongest_guidance > 1 else 1
    return max(1e-6, megapixels * request.num_inference_steps * branches)
