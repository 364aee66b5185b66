"""Tables: CSV, Parquet and Arrow streams, by columns where they are flawless, else row by row."""

from __future__ import annotations

import csv
import io
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import chain
from typing import Any, BinaryIO, cast
from zipfile import BadZipFile

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from slimpajama.core.temporary import temporary_files
from slimpajama.corpus.sources.records import (
    ROW_BYTES,
    Bad,
    Batch,
    Piece,
    Record,
    Want,
    checked,
    collect,
    column,
    decoded,
    failed,
    joined,
    seen,
    sift,
    too_large,
)
from slimpajama.corpus.sources.streams import (
    BOMB_BYTES,
    BOMB_RATIO,
    BrokenStreamError,
    TooLong,
    Unpacked,
    blocks,
    chunks,
    is_packed,
)

# Bytes that rows may take which are decoded together.
AT_ONCE = 1 << 27
# Bytes of a compressed Parquet file once unpacked to disk, where it must lie to be read.
COPY_LIMIT = 1 << 32
_BOM = "\ufeff"
# What `surrogateescape` makes of bytes that are no UTF-8.
_ESCAPED = re.compile("[\udc80-\udcff]{1,4}")
# What a bad file raises.
HOSTILE = (
    pa.ArrowException,
    OSError,
    LookupError,
    ValueError,
    ArithmeticError,
    MemoryError,
    TypeError,
    BadZipFile,
)
_Lines = tuple[int, bytes | TooLong]


def _missing(there: Callable[[str], bool], names: list[str], want: Want) -> Bad | None:
    lost = [name for name in want.text_fields if not there(name)]
    return Bad("", "no-text", f"columns {seen(', '.join(names))}", f"a column {lost[0]}") if lost else None


def read_csv(file: BinaryIO, name: str, want: Want) -> Iterator[Piece]:
    """Read RFC 4180 CSV with a header; a record's number is its row below the header, from 1."""
    lines = chunks(blocks(file, name), want.batch_bytes, want.max_document_bytes)
    for batch in _csv_batches(_whole_rows(lines, want.max_document_bytes), want):
        yield Piece(partial(iter, [batch]), file.tell())


def _whole_rows(lines: Iterator[_Lines], limit: int) -> Iterator[_Lines]:
    """Move the cuts between chunks to where rows end; what is no row within `limit` bytes is cut anywhere."""
    first, held = 1, b""
    broken: BrokenStreamError | None = None
    try:
        for number, data in lines:
            if isinstance(data, TooLong):
                yield from [(first, held)] if held else []
                yield number, data
                held = b""
                continue
            first, held = first if held else number, held + data
            ends = _row_ends(held)
            cut = int(ends[-1]) + 1 if ends.size else len(held) if len(held) > limit else 0
            if cut:
                yield first, held[:cut]
                first, held = first + held.count(b"\n", 0, cut), held[cut:]
    except BrokenStreamError as error:
        broken = error
    if held:
        yield first, held if held.endswith(b"\n") else held + b"\n"
    if broken:
        raise broken


def _row_ends(data: bytes) -> npt.NDArray[np.int64]:
    """Return where rows end: at the line feeds outside quotes."""
    array = np.frombuffer(data, np.uint8)
    feeds, quotes = np.flatnonzero(array == ord("\n")), np.flatnonzero(array == ord('"'))
    ends: npt.NDArray[np.int64] = feeds[np.searchsorted(quotes, feeds) % 2 == 0]
    return ends


def _csv_batches(lines: Iterator[_Lines], want: Want) -> Iterator[Batch]:
    """Parse by Arrow until something is unusual, and from there on by Python."""
    header: list[str] = []
    number = 1
    for first, data in lines:
        names = header
        if not header and isinstance(data, bytes):
            data = data.removeprefix(_BOM.encode())  # noqa: PLW2901 -- of the file, not of this chunk
            names = next(csv.reader(io.StringIO(data.decode("utf-8", "replace"), newline="")), [])
        batch = None if isinstance(data, TooLong) else _csv_flawless(data, names, not header, number, want)
        if batch is None:
            yield from collect(_csv_records(chain([(first, data)], lines), header, number, want), want)
            return
        header, number = names, number + batch.table.num_rows + len(batch.bad)
        yield batch


def _csv_flawless(data: bytes, names: list[str], has_header: bool, number: int, want: Want) -> Batch | None:
    """Return the batch of whole rows in which every quote stands where RFC 4180 wants it, else None."""
    array = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    quotes = np.flatnonzero(array == ord('"'))
    wanted = [*want.text_fields, *([want.id_field] if want.id_field in names else [])]
    if (
        len(data) > want.max_document_bytes
        or len(set(names)) < len(names)
        or not set(wanted) <= set(names)
        or data.startswith(_BOM.encode())
        or data.count(b"\r") != data.count(b"\r\n")
        or quotes.size % 2
        or not np.isin(array[quotes[::2] - 1], bytearray(b',\n"')).all()
        or not np.isin(array[quotes[1::2] + 1], bytearray(b',\r\n"')).all()
    ):
        return None
    ends = _row_ends(data) + 1  # in `array`
    blank = (array[ends - 1] == ord("\n")) | ((array[ends - 1] == ord("\r")) & (array[ends - 2] == ord("\n")))
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            pa.csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=names, skip_rows_after_names=int(has_header)
            ),
            pa.csv.ParseOptions(newlines_in_values=True),
            pa.csv.ConvertOptions(include_columns=wanted, column_types=dict.fromkeys(wanted, pa.large_string())),
        )
    except pa.ArrowException:
        return None
    if table.num_rows != len(ends) - int(blank.sum()) - has_header:
        return None
    ids = column(table, want.id_field).cast(pa.string()) if want.id_field in names else None
    return sift(number, "row", [column(table, name) for name in want.text_fields], ids, want)


def _csv_records(lines: Iterable[_Lines], header: list[str], number: int, want: Want) -> Iterator[Record | Bad]:
    limit = want.max_document_bytes
    # One for the whole process; more characters than bytes never fit.
    csv.field_size_limit(limit)
    skipped: list[Bad] = []

    def decoded_lines() -> Iterator[str]:
        for first, data in lines:
            lines_of: list[bytes | TooLong] = [data]
            if isinstance(data, bytes):
                lines_of = [*data.removesuffix(b"\n").split(b"\n")]
            for place, line in enumerate(lines_of, first):
                if isinstance(line, TooLong) or len(line) > limit:
                    length = line if isinstance(line, TooLong) else TooLong(len(line))
                    skipped.append(too_large(f"line {place}", length, limit))
                else:
                    # So that one bad byte costs one row.
                    text = line.decode("utf-8", "surrogateescape")
                    yield (text.removeprefix(_BOM) if place == 1 else text) + "\n"

    rows = csv.reader(decoded_lines(), strict=True)
    for row in _parsed(rows):
        yield from skipped
        skipped.clear()
        if not header and isinstance(row, list):
            header = row
            missing = _missing(header.__contains__, header, want)
            if missing:
                yield missing
                return
        elif row:
            if isinstance(row, list):
                yield _csv_record(dict(zip(header, row, strict=False)), number, want)
            else:
                yield Bad(f"row {number}", "not-csv", seen(row), "RFC 4180")
            number += 1
    yield from skipped


def _parsed(rows: Iterator[list[str]]) -> Iterator[list[str] | csv.Error]:
    """Yield the rows of a CSV reader and the errors between them, after which it goes on."""
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield error


def _csv_record(row: dict[str, str], number: int, want: Want) -> Record | Bad:
    place, text = f"row {number}", joined([row.get(name) for name in want.text_fields])
    escaped = _ESCAPED.search(text) if isinstance(text, str) else None
    if escaped:
        shown = bytes(ord(char) - 0xDC00 for char in escaped[0]).hex(" ")
        return Bad(place, "invalid-utf8", f"bytes {shown} at character {escaped.start() + 1}", "valid UTF-8")
    return checked(number, place, text, row.get(want.id_field) if want.id_field else None, want)


def _unpacked(parts: Iterator[bytes]) -> Any:
    """Return what a compressed file unpacks to as a temporary file that goes when it is closed; None if too much."""
    with temporary_files():
        plain = tempfile.NamedTemporaryFile()  # noqa: SIM115 -- lives as long as a piece may be read
        try:
            for part in parts:
                plain.write(part)
                if plain.tell() > COPY_LIMIT:
                    plain.close()
                    return None
            plain.flush()
        except BaseException:
            plain.close()
            raise
    return plain


def read_parquet(file: BinaryIO, open_file: Callable[[], BinaryIO], name: str, want: Want) -> Iterator[Piece]:
    """Read Parquet by row groups; a record's number is its row, from 1."""
    if is_packed(name):
        plain = _unpacked(blocks(file, name))
        if not plain:
            yield failed(Bad("", "too-large", f"more than {COPY_LIMIT} bytes unpacked", f"at most {COPY_LIMIT} bytes"))
            return
        file, open_file = cast(BinaryIO, plain.file), lambda: open(plain.name, "rb")  # noqa: SIM115
    try:
        size = file.seek(0, io.SEEK_END)
    except ValueError as error:
        # Of a server that says that it sends files from their beginning only.
        raise BrokenStreamError("unreadable", str(error)) from None
    if size == 0:
        return
    try:
        meta = pq.ParquetFile(file).metadata
        schema = meta.schema.to_arrow_schema()
    except HOSTILE as error:
        raise BrokenStreamError("unreadable", f"no Parquet: {error}") from None
    missing = _missing(partial(_has, schema), schema.names, want)
    if missing:
        yield failed(missing)
        return
    columns = _columns(schema, want)
    for group, (first, bound) in enumerate(row_groups(file, meta, columns)):
        position = size * (group + 1) // meta.num_row_groups
        if isinstance(bound, Bad):
            yield failed(bound, position)
        else:
            read = partial(_row_group, open_file, meta, columns, group, first, bound, want)
            yield Piece(read, position, again=True)


def row_groups(file: BinaryIO, meta: pq.FileMetaData, columns: list[str]) -> Iterator[tuple[int, int | Bad]]:
    """Yield the first row of each row group, from 1, and the bytes that it may unpack to, or why it cannot be read."""
    first, taken, size = 1, 0, file.seek(0, io.SEEK_END)
    for group in range(meta.num_row_groups):
        rows = meta.row_group(group).num_rows
        try:
            chunks_of_it = [chunk for _, chunk in _column_chunks(file, meta, group, columns)]
        except HOSTILE as error:
            yield first, Bad(f"row {first}", "unreadable", seen(error), "Parquet")
        else:
            packed = sum(chunk.total_compressed_size for chunk in chunks_of_it)
            unpacked = sum(chunk.total_uncompressed_size for chunk in chunks_of_it)
            limit, taken = max(BOMB_BYTES, BOMB_RATIO * packed), taken + packed
            fits = taken <= size and max(unpacked, rows * ROW_BYTES) <= limit
            yield first, limit if fits else too_much(first, limit)
        first += rows


def too_much(row: int, limit: int) -> Bad:
    """Return the record of a row group above `limit` bytes."""
    return Bad(f"row {row}", "too-large", "a row group of too many bytes once unpacked", f"at most {limit} bytes")


def _columns(schema: pa.Schema, want: Want) -> list[str]:
    heads = {name if name in schema.names else name.split(".")[0] for name in (*want.text_fields, want.id_field)}
    return [name for name in schema.names if want.all_columns or name in heads]


def _column_chunks(
    file: BinaryIO, meta: pq.FileMetaData, group: int, columns: list[str]
) -> list[tuple[str, pq.ColumnChunkMetaData]]:
    """Return the paths of a row group's columns and their metadata.

    Raises:
        One of HOSTILE: They are damaged.
    """
    paths = [meta.schema.column(number).path for number in range(meta.num_columns)]
    heads = tuple(f"{name}." for name in columns)
    wanted = [number for number, path in enumerate(paths) if f"{path}.".startswith(heads)]
    # `column` ends the process over damaged metadata; a reader of no rows looks at the same, reads nothing, and raises.
    reader = pq.ParquetFile(file, metadata=meta, buffer_size=1 << 20, pre_buffer=False).reader
    for _ in reader.iter_batches(0, row_groups=[group], column_indices=wanted, use_threads=False) if wanted else ():
        pass
    found = meta.row_group(group)
    return [(paths[number], found.column(number)) for number in wanted]


def group_rows(
    file: BinaryIO, meta: pq.FileMetaData, group: int, columns: list[str], batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a row group, at most `batch_rows` together, and fewer where they are long.

    Raises:
        One of HOSTILE: It is damaged.
    """
    at_once = _rows_at_once(file, meta, group, columns, batch_rows)
    table = pq.ParquetFile(file, metadata=meta, buffer_size=1 << 20)
    yield from table.iter_batches(at_once, row_groups=[group], columns=columns, use_threads=False)


def _rows_at_once(file: BinaryIO, meta: pq.FileMetaData, group: int, columns: list[str], batch_rows: int) -> int:
    """Return how many rows are decoded together: a long value of a dictionary is copied for every row that names it."""
    large = [
        path
        for path, chunk in _column_chunks(file, meta, group, columns)
        if chunk.has_dictionary_page and chunk.total_uncompressed_size * batch_rows > AT_ONCE
    ]
    longest = 1
    if large:
        table = pq.ParquetFile(file, metadata=meta, read_dictionary=large)
        row = next(table.iter_batches(1, row_groups=[group], columns=columns, use_threads=False), None)
        for values in row.columns if row else ():
            if pa.types.is_dictionary(values.type) and not pa.types.is_primitive(values.type.value_type):
                longest = max(longest, pc.max(pc.binary_length(values.dictionary)).as_py() or 0)
    return max(1, min(batch_rows, AT_ONCE // longest))


def _has(schema: pa.Schema, name: str) -> bool:
    if name in schema.names:
        return True
    kind = pa.struct(list(schema))
    for key in name.split("."):
        if not pa.types.is_struct(kind) or kind.get_field_index(key) < 0:
            return False
        kind = kind.field(key).type
    return True


def _row_group(
    open_file: Callable[[], BinaryIO],
    meta: pq.FileMetaData,
    columns: list[str],
    group: int,
    first: int,
    limit: int,
    want: Want,
) -> Iterator[Batch]:
    unpacked = 0
    try:
        with open_file() as file:
            for rows in group_rows(file, meta, group, columns, want.batch_rows):
                for batch in _batches(rows, first, want):
                    unpacked += batch.cost
                    yield batch
                first += rows.num_rows
                unpacked += sum(values.nbytes for values in rows.columns if not pa.types.is_dictionary(values.type))
                if unpacked > limit:
                    yield from failed(too_much(first, limit)).read()
                    return
    except HOSTILE as error:
        yield from failed(Bad(f"row {first}", "unreadable", seen(error), "Parquet")).read()


def read_arrow(file: BinaryIO, name: str, want: Want) -> Iterator[Piece]:
    """Read an Arrow stream or file, as `datasets` saves them; a record's number is its row, from 1."""
    plain, number = Unpacked(blocks(file, name)), 1
    if plain.peek(8).startswith(b"ARROW1"):
        # An Arrow file is this, a stream, and a footer.
        plain.read(8)
    if not plain.peek(1) and plain.error is None:
        return
    try:
        stream = pa.ipc.open_stream(pa.PythonFile(plain, "r"))
        missing = _missing(partial(_has, stream.schema), stream.schema.names, want)
        if missing:
            yield failed(missing)
            return
        for rows in stream:
            # Offsets out of a hostile file would be followed anywhere.
            rows.validate(full=True)
            for start in range(0, rows.num_rows, want.batch_rows):
                for batch in _batches(rows.slice(start, want.batch_rows), number + start, want):
                    yield Piece(partial(iter, [batch]), file.tell())
            number += rows.num_rows
    except HOSTILE as error:
        if plain.error is None:
            yield failed(Bad(f"row {number}", "unreadable", seen(error), "Arrow"))
    if plain.error:
        raise plain.error


def _batches(rows: pa.RecordBatch, first: int, want: Want) -> Iterator[Batch]:
    """Yield the records of some rows, by columns or, where a value is no flawless text, row by row."""
    found: Iterable[Batch]
    try:
        ids = _ids(column(rows, want.id_field)) if want.id_field and _has(rows.schema, want.id_field) else None
        found = [sift(first, "row", [_texts(column(rows, name)) for name in want.text_fields], ids, want)]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        found = collect(_table_records(rows, first, want), want)
    for batch in found:
        if want.all_columns:
            others = rows.select([name for name in rows.schema.names if name not in (*want.text_fields, want.id_field)])
            if batch.table.num_rows < rows.num_rows:
                others = others.take(pc.subtract(batch.table["number"].combine_chunks(), first))
            batch = batch._replace(others=others)  # noqa: PLW2901
        yield batch


def _table_records(rows: pa.RecordBatch, first: int, want: Want) -> Iterator[Record | Bad]:
    texts = [_values(column(rows, name)) for name in want.text_fields]
    has_id = want.id_field and _has(rows.schema, want.id_field)
    ids = _values(column(rows, want.id_field)) if has_id else [None] * rows.num_rows
    for number, (own_id, *values) in enumerate(zip(ids, *texts, strict=True), first):
        place = f"row {number}"
        read = [decoded(value, place) if isinstance(value, bytes) else value for value in values]
        bad = [value for value in read if isinstance(value, Bad)]
        shown = own_id.decode("utf-8", "replace") if isinstance(own_id, bytes) else own_id
        yield bad[0] if bad else checked(number, place, joined(read), shown, want)


def _values(values: pa.Array) -> list[Any]:
    """Return a text column as bytes, whose UTF-8 is checked value by value; any other column as it is."""
    values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    if pa.types.is_string_view(values.type):
        values = values.cast(pa.binary_view())
    elif pa.types.is_string(values.type) or pa.types.is_large_string(values.type):
        values = values.cast(pa.large_binary())
    return list(values.to_pylist())


def _texts(values: pa.Array) -> pa.Array:
    """Return a column of texts as large_string.

    Raises:
        ArrowInvalid: Some value is no text, no UTF-8, or begins with a byte order mark.
    """
    values = values.dictionary_decode() if pa.types.is_dictionary(values.type) else values
    if pa.types.is_primitive(values.type) or pa.types.is_nested(values.type):
        raise pa.ArrowInvalid("no texts")
    values = values.cast(pa.large_string())
    values.validate(full=True)
    if pc.any(pc.starts_with(values, _BOM)).as_py():
        raise pa.ArrowInvalid("a byte order mark")
    return values


def _ids(values: pa.Array) -> pa.Array:
    kind = values.type
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_integer)
    if any(is_kind(kind) for is_kind in kinds):
        values = values.cast(pa.string())
        values.validate(full=True)
        return values
    raise pa.ArrowInvalid("ids of another kind")
