"""Raw frames as a NumPy file, for callers in Python."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.media.output import whole, writing


def keep_frames(
    file: Path, chunks: Iterable[NDArray[np.uint8]], shape: tuple[int, int, int, int]
) -> Iterator[NDArray[np.uint8]]:
    """Pass `chunks` on, each written to `file` (.npy, uint8, `shape` = [F, H, W, 3]) on its way.

    Raises:
        OutputError: the system refused to write.
    """
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with whole(file) as part:
        with writing(file):
            output = part.open("wb")
        with output:
            with writing(file):
                np.lib.format.write_array_header_1_0(output, header)
            for chunk in chunks:
                with writing(file):
                    output.write(chunk.tobytes())
                yield chunk
            with writing(file):
                output.flush()
