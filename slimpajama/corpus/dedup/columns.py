"""Texts, ids, content hashes and band keys between Arrow, numpy and files."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from slimpajama.workspace.manifest import FileEntry
from slimpajama.workspace.parquet import reading
from slimpajama.workspace.store import Store

# Texts that are packed, and so read, together.
BATCH = 16


def large_strings(column: pa.ChunkedArray | pa.Array) -> pa.LargeStringArray:
    """Return a text column as one contiguous array with 64-bit offsets."""
    array = column.cast(pa.large_string())
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def content_column(content: npt.NDArray[np.uint8]) -> pa.Array:
    """Return uint8 [N, 16] as binary(16)."""
    return pa.FixedSizeBinaryArray.from_buffers(pa.binary(16), len(content), [None, pa.py_buffer(content.tobytes())])


def content_array(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[np.uint8]:
    """Return binary(16) as uint8 [N, 16]."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    parts = [np.frombuffer(c.buffers()[1], np.uint8, 16 * len(c), 16 * c.offset) for c in chunks if len(c)]
    return np.concatenate([np.zeros(0, np.uint8), *parts]).reshape(-1, 16)


def pack_ids(ids: pa.Array) -> pa.Array:
    """Return ids of 32 hex digits as binary(16): less than half of the memory, and in the same order."""
    values = bytes.fromhex("".join(ids.to_pylist()))
    return content_column(np.frombuffer(values, np.uint8).reshape(-1, 16))


def unpack_ids(packed: pa.Array) -> pa.Array:
    """Return what `pack_ids` was given; nulls stay."""
    digits = content_array(packed).tobytes().hex().encode()
    offsets = np.arange(0, 32 * len(packed) + 1, 32, dtype=np.int32)
    valid = pa.array(packed.is_valid()).buffers()[1] if packed.null_count else None
    return pa.StringArray.from_buffers(len(packed), pa.py_buffer(offsets), pa.py_buffer(digits), valid)


def key_columns(content: npt.NDArray[np.uint8], keys: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the columns of a join, uint64 [1 + bands, N]: the first half of the content hash, then the bands' keys.

    By the content hash exact copies meet even where every band is crowded.
    """
    return np.concatenate([content[:, :8].copy().view(np.uint64).T, keys.T])


def key_file(content: npt.NDArray[np.uint8], keys: npt.NDArray[np.uint64]) -> bytes:
    """Return a Parquet file of one column `key`; row group b is row b of `key_columns`, so that each is read alone."""
    # Hashes do not compress, and no two are alike: plain values, no statistics.
    sink = io.BytesIO()
    pq.write_table(
        pa.table({"key": key_columns(content, keys).ravel()}),
        sink,
        row_group_size=len(keys),
        use_dictionary=False,
        compression="none",
        write_statistics=False,
    )
    return sink.getvalue()


def load_keys(store: Store, entry: FileEntry, groups: Sequence[int]) -> npt.NDArray[np.uint64]:
    """Return row groups of a key file of the workspace, uint64 [groups, N]; errors as of `reading`."""
    with reading(store, entry) as file:
        return read_keys(file, groups)


def load_texts(store: Store, entry: FileEntry, rows: npt.NDArray[np.int64]) -> pa.LargeStringArray:
    """Return some rows, ascending, of a text file of the workspace; errors as of `reading`."""
    with reading(store, entry) as file:
        return read_texts(file, rows)


def read_keys(file: BinaryIO | Path, groups: Sequence[int]) -> npt.NDArray[np.uint64]:
    """Return row groups of a key file, uint64 [groups, N]."""
    column = pq.ParquetFile(file).read_row_groups(list(groups), use_threads=False)["key"]
    return np.asarray(column.to_numpy(), np.uint64).reshape(len(groups), -1)


def text_file(texts: pa.LargeStringArray) -> bytes:
    """Return an Arrow file of one column `text` in batches of `BATCH` rows, so that a few texts are read alone."""
    sink, schema = io.BytesIO(), pa.schema([("text", pa.large_string())])
    with pa.ipc.new_file(sink, schema, options=pa.ipc.IpcWriteOptions(compression="lz4")) as writer:
        writer.write_table(pa.table([texts], schema=schema), max_chunksize=BATCH)
    return sink.getvalue()


def read_texts(file: BinaryIO, rows: npt.NDArray[np.int64]) -> pa.LargeStringArray:
    """Return some rows, ascending, of a text file; only their batches are read."""
    reader = pa.ipc.open_file(file)
    batches, first = np.unique(rows // BATCH, return_index=True)
    parts = np.split(rows % BATCH, first[1:])
    found = [reader.get_batch(b)["text"].take(pa.array(part)) for b, part in zip(batches.tolist(), parts, strict=False)]
    return pa.concat_arrays([pa.array([], pa.large_string()), *found])
