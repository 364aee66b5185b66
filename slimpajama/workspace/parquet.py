"""Files of the workspace: Parquet written so that the same table gives the same bytes, listed files read and checked.

A file that is read whole is hashed: `read_verified`. Of one that is read in part the blocks are checked that are read:
`reading`, `read_table`. Nothing that a manifest lists is read otherwise.
"""

import contextlib
import functools
import hashlib
import io
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, cast

import pyarrow as pa
import pyarrow.parquet as pq

from slimpajama.core.errors import DamagedError, StorageError, printable
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import BLOCK, FileEntry, blocks_crc32, load_manifest
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
        raise not_as_listed(store, entry.path, f"sha256 {entry.sha256[:16]}…", f"sha256 {found[:16]}…")
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


class _Checked(io.RawIOBase):
    """A listed file of which each block is checked before a byte of it is handed out."""

    def __init__(self, store: Store, entry: FileEntry, file: BinaryIO, sums: str) -> None:
        self._store, self._entry, self._file, self._sums = store, entry, file, sums
        self._place = 0
        # The last block that was read, and where it begins: columns are read one after the other.
        self._held, self._start = b"", 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._place = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._entry.bytes}[whence]
        return self._place

    def read(self, size: int = -1, /) -> bytes:
        whole = self._entry.bytes
        end = whole if size < 0 else min(self._place + size, whole)
        begin = min(self._place, end)
        data, start = self._held, self._start
        if not start <= begin <= end <= start + len(data):
            start = begin // BLOCK * BLOCK
            data = self._blocks(start, min(-(-end // BLOCK) * BLOCK, whole))
            self._held, self._start = data[-BLOCK:], start + max(0, len(data) - BLOCK)
        self._place = end
        return data[begin - start : end - start]

    def _blocks(self, start: int, end: int) -> bytes:
        self._file.seek(start)
        data = self._file.read(end - start)
        expected = self._sums[8 * (start // BLOCK) : 8 * -(-end // BLOCK)]
        for _ in range(TRIES):
            if blocks_crc32(data) == expected:
                return data
            # A disk or a network may have damaged it on its way.
            data = self._store.read(self._entry.path, start, end)
        raise not_as_listed(self._store, self._entry.path, "the checksums listed", f"damage after byte {start}")


# A night's files are opened many times.
@functools.lru_cache(maxsize=10_000)
def _checksums(store: Store, entry: FileEntry) -> str:
    """Return the checksums of a file's blocks; where an earlier version listed none, after hashing all of it."""
    if entry.crc32:
        return entry.crc32
    digest, sums = hashlib.sha256(), []
    with store.open(entry.path) as file:
        while data := file.read(BLOCK):
            digest.update(data)
            sums.append(blocks_crc32(data))
    if (found := digest.hexdigest()) != entry.sha256:
        raise not_as_listed(store, entry.path, f"sha256 {entry.sha256[:16]}…", f"sha256 {found[:16]}…")
    return "".join(sums)


@contextlib.contextmanager
def reading(store: Store, entry: FileEntry) -> Iterator[BinaryIO]:
    """Open a listed Parquet or Arrow file of which a part is read.

    Raises:
        StorageError: It is missing, of another size, damaged where it is read, or not readable.
    """
    try:
        with store.open(entry.path) as file:
            if (size := file.seek(0, io.SEEK_END)) != entry.bytes:
                raise not_as_listed(store, entry.path, f"{entry.bytes} bytes", f"{size} bytes")
            yield cast(BinaryIO, _Checked(store, entry, file, _checksums(store, entry)))
    except outside_errors(pa.ArrowException) as error:
        where = f"{store.uri}/{entry.path}"
        raise StorageError(f"not readable as Parquet: {error}", where=where, hint=CHECK) from error


def read_table(store: Store, entry: FileEntry, columns: list[str] | None = None) -> pa.Table:
    """Return a listed Parquet file, or those of its columns that are named; errors as of `reading`."""
    with reading(store, entry) as file:
        return pq.ParquetFile(file).read(columns=columns)


def read_columns(store: Store, entries: Iterable[FileEntry], schema: pa.Schema, names: list[str]) -> pa.Table:
    """Return some columns of files of one schema, one file after the other; without files the table is empty."""
    tables = [read_table(store, entry, names) for entry in entries]
    return pa.concat_tables(tables) if tables else pa.schema(map(schema.field, names)).empty_table()


def not_as_listed(store: Store, path: str, expected: str, found: str) -> DamagedError:
    """Return what to raise where a file is not what its manifest says."""
    what = "the file is not what its manifest says"
    hint = "It was changed or damaged after it was written: `slimpajama verify` says what to do."
    if (place := layout.place(path)).root == "nights":
        step = printable(place.inner) if place.kind == "work" else "ingest"
        command = f"`slimpajama prepare --night {printable(place.owner)} --from {step}`"
        hint += f" Where the night is not published yet, {command} makes it again."
    return DamagedError(what, where=f"{store.uri}/{path}", expected=expected, found=found, hint=hint)
