"""Texts, content hashes and band keys between Arrow columns and numpy arrays."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa

__all__ = ["content_array", "content_column", "key_array", "key_column", "large_strings"]


def large_strings(column: pa.ChunkedArray | pa.Array) -> pa.LargeStringArray:
    """Return a text column as one contiguous array with 64-bit offsets."""
    array = column.cast(pa.large_string())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def content_column(content: npt.NDArray[np.uint8]) -> pa.Array:
    """Return uint8 [N, 16] as binary(16)."""
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(content), [None, pa.py_buffer(content.tobytes())])


def content_array(column: pa.ChunkedArray) -> npt.NDArray[np.uint8]:
    """Return binary(16) as uint8 [N, 16]."""
    return np.frombuffer(b"".join(column.to_pylist()), np.uint8).reshape(-1, 16)


def key_column(keys: npt.NDArray[np.uint64]) -> pa.Array:
    """Return uint64 [N, bands] as a list a row."""
    offsets = np.arange(0, keys.size + 1, keys.shape[1], dtype=np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(keys.ravel()))


def key_array(column: pa.ChunkedArray, bands: int) -> npt.NDArray[np.uint64]:
    """Return a column of lists as uint64 [N, bands]."""
    values = [chunk.flatten().to_numpy() for chunk in column.chunks]
    return np.concatenate([np.zeros(0, np.uint64), *values]).reshape(-1, bands)
