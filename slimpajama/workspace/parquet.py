"""Files of the workspace: Parquet written so that the same table gives the same bytes, listed files read and checked.

A file that is read whole is hashed: `read_verified`. Of one that is read in part the size is compared, since a hash
would cost more than a column of it: `reading`, `read_table`. `slimpajama verify` hashes all of them.
"""

from __future__ import annotations

import contextlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from slimpajama.core.errors import StorageError
from slimpajama.workspace.manifest import FileEntry, load_manifest
from slimpajama.workspace.store import CHECK, TRIES, Store, outside_errors, sha256

REPETITIVE = ["lang", "source", "night", "stage", "rule", "threshold"]


def parquet_bytes(table: pa.Table, row_group_rows: int = 10_000, *, intermediate: bool = False) -> bytes:
    """Return `table` as one Parquet file; the same table gives the same bytes.

    Args:
        table: What to write. Only columns that repeat themselves get a dictionary: to try one costs as much as packing.
            Texts get no minimum and maximum.
        row_group_rows: Rows that are read at once.
        intermediate: Whether the file is read once and deleted: it takes half as long to write and is half as large
            again.
    """
    sink = io.BytesIO()
    short = [field.name for field in table.schema if field.type not in (pa.large_string(), pa.binary())]
    pq.write_table(
        table,
        sink,
        compression="lz4" if intermediate else "zstd",
        compression_level=None if intermediate else 1,
        row_group_size=row_group_rows,
        use_dictionary=REPETITIVE,
        write_statistics=short,
    )
    return sink.getvalue()


def with_checksum(data: bytes) -> bytes:
    """Return a piece of a file with its checksum behind it, for pieces that are read without the rest."""
    return data + zlib.crc32(data).to_bytes(4, "little")


def read_with_checksum(store: Store, path: str, start: int, end: int, hint: str) -> bytes:
    """Return a piece that was written `with_checksum`, without it; `hint` says what to do where it is damaged."""
    for _ in range(TRIES):
        data = store.read(path, start, end)
        if data == with_checksum(data[:-4]):
            return data[:-4]
    raise StorageError("damaged", where=f"{store.uri}/{path}", found=f"bytes {start} to {end}", hint=hint)


def read_verified(store: Store, entry: FileEntry) -> bytes:
    """Return a listed file after its hash was compared with its manifest's."""
    data = store.read(entry.path)
    if (found := sha256(data)) != entry.sha256:
        hint = "It was changed or damaged after it was published: `slimpajama verify` says what to do."
        raise _not_as_listed(store, entry.path, f"sha256 {entry.sha256[:16]}…", f"sha256 {found[:16]}…", hint)
    return data


def verified_json(store: Store, entry: FileEntry) -> Any:
    """Return what a listed JSON file holds, see `read_verified`."""
    return json.loads(read_verified(store, entry))


def published_json(store: Store, manifest_path: str, name: str) -> Any:
    """Return the JSON file of that name that a manifest lists; None where there is no such manifest or file."""
    manifest = load_manifest(store, manifest_path)
    entry = manifest.find(name) if manifest else None
    return verified_json(store, entry) if entry else None


def read_verified_table(store: Store, entry: FileEntry) -> pa.Table:
    """Return all of a listed Parquet file after its hash was compared with its manifest's."""
    return pq.ParquetFile(pa.BufferReader(read_verified(store, entry))).read()


@contextlib.contextmanager
def reading(store: Store, path: str, size: int | None = None) -> Iterator[BinaryIO]:
    """Open a Parquet or Arrow file of which a part is read.

    Args:
        size: Bytes that its manifest lists; None not to compare.

    Raises:
        StorageError: It is missing, of another size, or not readable.
    """
    try:
        with store.open(path) as file:
            if size is not None and (found := file.seek(0, io.SEEK_END)) != size:
                raise _not_as_listed(store, path, f"{size} bytes", f"{found} bytes", CHECK)
            yield file
    except outside_errors(pa.ArrowException) as error:
        raise StorageError(f"not readable as Parquet: {error}", where=f"{store.uri}/{path}", hint=CHECK) from error


def read_table(store: Store, path: str, columns: list[str] | None = None, size: int | None = None) -> pa.Table:
    """Return a Parquet file of the workspace, or those of its columns that are named; `size` as in `reading`."""
    with reading(store, path, size) as file:
        return pq.ParquetFile(file).read(columns=columns)


def read_columns(store: Store, paths: Iterable[str], schema: pa.Schema, names: list[str]) -> pa.Table:
    """Return some columns of files of one schema, one file after the other; without files the table is empty."""
    tables = [read_table(store, path, names) for path in paths]
    return pa.concat_tables(tables) if tables else pa.schema(map(schema.field, names)).empty_table()


def _not_as_listed(store: Store, path: str, expected: str, found: str, hint: str) -> StorageError:
    what = "the file is not what its manifest says"
    return StorageError(what, where=f"{store.uri}/{path}", expected=expected, found=found, hint=hint)
