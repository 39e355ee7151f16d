"""How large and how long a family's models go, from their configs alone. Torch-free.

For the families' cards, and for `rushes doctor`, which loads nothing.
"""

from __future__ import annotations

FLUX2 = {"max_width": 2048, "max_height": 2048, "max_num_frames": 1}
"""Under the names that a card has; up to 4 megapixels."""


def wan(*, rotary: int, patch_time: int, size_multiple: int, frame_step: int) -> dict[str, int]:
    """As far as rotary table and sense reach; 161 frames are 10 s at 16 frames a second.

    Args:
        rotary: places in the transformer's rotary table, each way.
        patch_time: latent frames of one token.
        size_multiple: pixels of one token, each way.
        frame_step: frames that a latent frame stands for, after the first.
    """
    widest = min(1280, rotary * size_multiple)
    longest = frame_step * (rotary * patch_time - 1) + 1
    return {"max_width": widest, "max_height": widest, "max_num_frames": min(161, longest)}
