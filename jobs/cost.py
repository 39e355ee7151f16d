"""What a job is expected to cost, for the fair order: units of work, known from the request alone.

The seconds that a unit takes are learned per model from finished jobs (`rate:<model>` in Redis), so
only the proportions matter here.
"""

from __future__ import annotations

from pipeline.request import Request


def work_units(request: Request) -> float:
    """Millions of output pixels, of all outputs, times denoising steps and branches (two with guidance)."""
    frames = request.num_frames * request.num_outputs
    megapixels = request.width * request.height * frames / 1e6
    branches = 2 if request.strongest_guidance > 1 else 1
    return max(1e-6, megapixels * request.num_inference_steps * branches)
