"""Arrow's text columns as the numpy arrays that kernels read."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa


def text_buffers(texts: pa.LargeStringArray) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint8]]:
    """Return an array's offsets (int64 [N + 1]) and UTF-8 bytes, without copying.

    Raises:
        ValueError: If a text is null: it would silently count as empty.
    """
    if texts.null_count:
        raise ValueError(f"texts must not be null, found {texts.null_count} nulls")
    if len(texts) == 0:
        return np.zeros(1, np.int64), np.zeros(0, np.uint8)
    _, offsets, data = texts.buffers()
    slots = np.frombuffer(offsets, np.int64, count=len(texts) + 1, offset=8 * texts.offset)
    return slots, np.frombuffer(data, np.uint8) if data else np.zeros(0, np.uint8)
