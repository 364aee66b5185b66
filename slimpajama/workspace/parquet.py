"""Parquet and Arrow files of the workspace: the same table, the same bytes."""

from __future__ import annotations

import contextlib
import io
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from slimpajama.core.errors import StorageError
from slimpajama.workspace.store import CHECK, TRIES, Store, outside_errors

REPETITIVE = ["lang", "source", "night", "stage", "rule", "threshold"]


def parquet_bytes(table: pa.Table, row_group_rows: int = 10_000, *, passing: bool = False) -> bytes:
    """Return `table` as one Parquet file; the same table gives the same bytes.

    Args:
        table: What to write. Dictionaries are only for columns that repeat themselves: trying one costs as much as
            packing. Of texts no least and greatest are noted.
        row_group_rows: Rows that are read at once.
        passing: Whether the file is read once and dropped: half as long to write, half as large again.
    """
    sink = io.BytesIO()
    short = [field.name for field in table.schema if field.type not in (pa.large_string(), pa.binary())]
    pq.write_table(
        table,
        sink,
        compression="lz4" if passing else "zstd",
        compression_level=None if passing else 1,
        row_group_size=row_group_rows,
        use_dictionary=REPETITIVE,
        write_statistics=short,
    )
    return sink.getvalue()


def sealed(data: bytes) -> bytes:
    """Return a piece of a file with its checksum behind it, for pieces that are read without the rest."""
    return data + zlib.crc32(data).to_bytes(4, "little")


def read_sealed(store: Store, path: str, start: int, end: int, again: str) -> bytes:
    """Return a piece that was written `sealed`, without its checksum; `again` says what to do if it is damaged."""
    for _ in range(TRIES):
        data = store.read(path, start, end)
        if data == sealed(data[:-4]):
            return data[:-4]
    raise StorageError("damaged", where=f"{store.uri}/{path}", found=f"bytes {start} to {end}", hint=again)


@contextlib.contextmanager
def reading(store: Store, path: str, size: int | None = None) -> Iterator[BinaryIO]:
    """Open a Parquet or Arrow file of which a part is read; what is wrong with it becomes one error that names it.

    Args:
        store: The workspace.
        path: The file.
        size: Bytes that its manifest lists; None not to look. To hash a file would cost more than to read a column of
            it, so `slimpajama verify` does that; another file in its place shows by its size.

    Raises:
        StorageError: It is missing, of another size, or not readable.
    """
    try:
        with store.open(path) as file:
            if size is not None and (found := file.seek(0, io.SEEK_END)) != size:
                raise StorageError(
                    "the file is not what its manifest says",
                    where=f"{store.uri}/{path}",
                    expected=f"{size} bytes",
                    found=f"{found} bytes",
                    hint=CHECK,
                )
            yield file
    except outside_errors(pa.ArrowException) as error:
        raise StorageError(f"not readable as Parquet: {error}", where=f"{store.uri}/{path}", hint=CHECK) from error


def read_table(store: Store, path: str, columns: list[str] | None = None, size: int | None = None) -> pa.Table:
    """Return a Parquet file of the workspace, or those of its columns that are named; `size` as in `reading`."""
    with reading(store, path, size) as file:
        return pq.ParquetFile(file).read(columns=columns)
