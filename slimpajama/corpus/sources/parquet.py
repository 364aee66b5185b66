"""Parquet, by row groups, each bounded by what its metadata says before it is read."""

import io
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, BinaryIO, NamedTuple, cast

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.core.temporary import temporary_files
from slimpajama.corpus.sources.arrow import HOSTILE, batches_of, has_column
from slimpajama.corpus.sources.fields import heads
from slimpajama.corpus.sources.records import ROW_BYTES, Batch, Chunk, ReadOptions, RejectedRecord, failed, seen
from slimpajama.corpus.sources.streams import BOMB_BYTES, BOMB_RATIO, BrokenStreamError, blocks, is_packed

# Most bytes of the rows that are decoded together.
AT_ONCE = 1 << 27
# Most bytes of a compressed file once it is unpacked to disk. Parquet can only be read from there.
COPY_LIMIT = 1 << 32


class RowGroup(NamedTuple):
    """A row group whose metadata was checked."""

    meta: pq.FileMetaData
    columns: list[str]
    number: int
    first: int
    """Number of its first row, from 1."""
    limit: int
    """Bytes that it may unpack to."""

    def rows(self, file: BinaryIO, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Yield its rows, at most `batch_rows` together, and fewer where they are long.

        Raises:
            One of HOSTILE: It is damaged.
        """
        at_once = self._rows_at_once(file, batch_rows)
        table = pq.ParquetFile(file, metadata=self.meta, buffer_size=1 << 20)
        yield from table.iter_batches(at_once, row_groups=[self.number], columns=self.columns, use_threads=False)

    def _rows_at_once(self, file: BinaryIO, batch_rows: int) -> int:
        """Return how many rows are decoded together: a long value of a dictionary is copied for each row with it."""
        large = [
            path
            for path, chunk in _column_chunks(file, self.meta, self.number, self.columns)
            if chunk.has_dictionary_page and chunk.total_uncompressed_size * batch_rows > AT_ONCE
        ]
        longest = 1
        if large:
            table = pq.ParquetFile(file, metadata=self.meta, read_dictionary=large)
            batches = table.iter_batches(1, row_groups=[self.number], columns=self.columns, use_threads=False)
            row = next(batches, None)
            for values in row.columns if row else ():
                if pa.types.is_dictionary(values.type) and not pa.types.is_primitive(values.type.value_type):
                    longest = max(longest, pc.max(pc.binary_length(values.dictionary)).as_py() or 0)
        return max(1, min(batch_rows, AT_ONCE // longest))

    def too_large(self, row: int) -> RejectedRecord:
        """Return that the group unpacks to more than it may, which was seen at a row."""
        found = "a row group of too many bytes once unpacked"
        return RejectedRecord(f"row {row}", "too-large", found, f"at most {self.limit} bytes")


def _column_chunks(
    file: BinaryIO, meta: pq.FileMetaData, group: int, columns: list[str]
) -> list[tuple[str, pq.ColumnChunkMetaData]]:
    """Return the paths of a row group's columns and their metadata.

    Raises:
        One of HOSTILE: They are damaged.
    """
    paths = [meta.schema.column(number).path for number in range(meta.num_columns)]
    heads = tuple(f"{name}." for name in columns)
    used = [number for number, path in enumerate(paths) if f"{path}.".startswith(heads)]
    if used:
        # `column` ends the process over damaged metadata. A reader of no rows looks at the same and raises.
        reader = pq.ParquetFile(file, metadata=meta, buffer_size=1 << 20, pre_buffer=False).reader
        list(reader.iter_batches(0, row_groups=[group], column_indices=used, use_threads=False))
    found = meta.row_group(group)
    return [(paths[number], found.column(number)) for number in used]


def row_groups(file: BinaryIO, meta: pq.FileMetaData, columns: list[str]) -> Iterator[RowGroup | RejectedRecord]:
    """Yield the row groups of a file of which some columns are read, or why one cannot be."""
    first, taken, size = 1, 0, file.seek(0, io.SEEK_END)
    for number in range(meta.num_row_groups):
        rows = meta.row_group(number).num_rows
        try:
            found = [chunk for _, chunk in _column_chunks(file, meta, number, columns)]
        except HOSTILE as error:
            yield RejectedRecord(f"row {first}", "unreadable", seen(error), "Parquet")
        else:
            packed = sum(chunk.total_compressed_size for chunk in found)
            unpacked = sum(chunk.total_uncompressed_size for chunk in found)
            limit, taken = max(BOMB_BYTES, BOMB_RATIO * packed), taken + packed
            fits = taken <= size and max(unpacked, rows * ROW_BYTES) <= limit
            group = RowGroup(meta, columns, number, first, limit)
            yield group if fits else group.too_large(first)
        first += rows


def read_parquet(file: BinaryIO, open_file: Callable[[], BinaryIO], name: str, options: ReadOptions) -> Iterator[Chunk]:
    """Read Parquet by row groups; a record's number is its row, from 1."""
    if is_packed(name) or not file.seekable():
        plain = _unpacked(blocks(file, name))
        if not plain:
            found, bound = f"more than {COPY_LIMIT} bytes unpacked", f"at most {COPY_LIMIT} bytes"
            yield failed(RejectedRecord("", "too-large", found, bound))
            return
        file, open_file = cast(BinaryIO, plain.file), lambda: open(plain.name, "rb")  # noqa: SIM115
    try:
        size = file.seek(0, io.SEEK_END)
    except ValueError as error:
        # The server says that it sends files from their beginning only.
        raise BrokenStreamError("unreadable", str(error)) from None
    if size == 0:
        return
    try:
        meta = pq.ParquetFile(file).metadata
        schema = meta.schema.to_arrow_schema()
    except HOSTILE as error:
        raise BrokenStreamError("unreadable", f"no Parquet: {error}") from None
    missing = options.missing_column(partial(has_column, schema), schema.names)
    if missing:
        yield failed(missing)
        return
    for number, group in enumerate(row_groups(file, meta, _columns(schema, options)), 1):
        position = size * number // meta.num_row_groups
        if isinstance(group, RejectedRecord):
            yield failed(group, position)
        else:
            yield Chunk(partial(_batches, open_file, group, options), position, again=True)


def _columns(schema: pa.Schema, options: ReadOptions) -> list[str]:
    used = set().union(*(heads(schema.names, name) for name in (*options.text_fields, options.id_field)))
    return [name for name in schema.names if options.all_columns or name in used]


def _batches(open_file: Callable[[], BinaryIO], group: RowGroup, options: ReadOptions) -> Iterator[Batch]:
    first, unpacked = group.first, 0
    try:
        with open_file() as file:
            for rows in group.rows(file, options.batch_rows):
                for batch in batches_of(rows, first, options):
                    unpacked += batch.cost
                    yield batch
                first += rows.num_rows
                unpacked += sum(values.nbytes for values in rows.columns if not pa.types.is_dictionary(values.type))
                if unpacked > group.limit:
                    yield from failed(group.too_large(first)).read()
                    return
    except HOSTILE as error:
        yield from failed(RejectedRecord(f"row {first}", "unreadable", seen(error), "Parquet")).read()


def _unpacked(stream: Iterator[bytes]) -> Any:
    """Return what a compressed file unpacks to as a temporary file that goes when it is closed; None if too much."""
    with temporary_files():
        plain = tempfile.NamedTemporaryFile()  # noqa: SIM115 -- lives as long as a chunk may be read
        try:
            for block in stream:
                plain.write(block)
                if plain.tell() > COPY_LIMIT:
                    plain.close()
                    return None
            plain.flush()
        except BaseException:
            plain.close()
            raise
    return plain
