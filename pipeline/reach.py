"""What sizes a family's models make, from their configs alone: when nobody says, and at most. Torch-free.

For the families' cards, and for `rushes doctor`, which loads nothing.
"""

from __future__ import annotations

FLUX2 = {
    "width": 1024,
    "height": 1024,
    "num_frames": 1,
    "max_width": 2048,
    "max_height": 2048,
    "max_num_frames": 1,
}
"""Under the names that a card has; up to 4 megapixels."""


def wan(
    *,
    rotary: int,
    patch_time: int,
    size_multiple: int,
    frame_step: int,
    two_experts: bool,
    either: bool,
) -> dict[str, int]:
    """The authors' own sizes; at most as far as rotary table and sense reach.

    161 frames are 10 s at 16 frames a second.

    Args:
        rotary: places in the transformer's rotary table, each way.
        patch_time: latent frames of one token.
        size_multiple: pixels of one token, each way.
        frame_step: frames that a latent frame stands for, after the first.
        two_experts: Wan2.2 A14B.
        either: Wan2.2 TI2V-5B, which starts from text or an image.
    """
    width, height, frames = 832, 480, 81
    if either:
        width, height, frames = 1280, 704, 121
    elif two_experts:
        width, height = 1280, 720
    widest = min(1280, rotary * size_multiple)
    longest = frame_step * (rotary * patch_time - 1) + 1
    return {
        "width": width,
        "height": height,
        "num_frames": frames,
        "max_width": widest,
        "max_height": widest,
        "max_num_frames": min(161, longest),
    }
