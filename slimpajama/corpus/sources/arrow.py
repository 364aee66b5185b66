"""Arrow streams, and rows of Arrow as records: by columns or, where a value is no flawless text, row by row."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO
from zipfile import BadZipFile

import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.corpus.sources.records import (
    BOM,
    Batch,
    Chunk,
    Found,
    ReadOptions,
    RejectedRecord,
    collect,
    column,
    decoded,
    failed,
    filter_columns,
    joined,
    parsed,
    seen,
)
from slimpajama.corpus.sources.streams import Unpacked, blocks

# The errors that a damaged or hostile file raises.
HOSTILE = (pa.ArrowException, OSError, LookupError, ValueError, ArithmeticError, MemoryError, TypeError, BadZipFile)


def read_arrow(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Chunk]:
    """Read an Arrow stream or file, as `datasets` saves them; a record's number is its row, from 1."""
    plain, number = Unpacked(blocks(file, name)), 1
    if plain.peek(8).startswith(b"ARROW1"):
        # An Arrow file is these eight bytes, a stream and a footer.
        plain.read(8)
    if not plain.peek(1) and plain.error is None:
        return
    try:
        stream = pa.ipc.open_stream(pa.PythonFile(plain, "r"))
        missing = options.missing_column(partial(has_column, stream.schema), stream.schema.names)
        if missing:
            yield failed(missing)
            return
        for rows in stream:
            # Without this check, a hostile file's offsets would be followed to any address.
            rows.validate(full=True)
            for start in range(0, rows.num_rows, options.batch_rows):
                for batch in batches_of(rows.slice(start, options.batch_rows), number + start, options):
                    yield parsed(batch, file.tell())
            number += rows.num_rows
    except HOSTILE as error:
        if plain.error is None:
            yield failed(RejectedRecord(f"row {number}", "unreadable", seen(error), "Arrow"))
    plain.check()


def has_column(schema: pa.Schema, name: str) -> bool:
    """Return whether a schema has a column; a dot leads into a struct."""
    if name in schema.names:
        return True
    kind = pa.struct(list(schema))
    for key in name.split("."):
        if not pa.types.is_struct(kind) or kind.get_field_index(key) < 0:
            return False
        kind = kind.field(key).type
    return True


def batches_of(rows: pa.RecordBatch, first: int, options: ReadOptions) -> Iterator[Batch]:
    """Yield the records of validated rows; `first` is the number of the first one."""
    has_id = bool(options.id_field) and has_column(rows.schema, options.id_field)
    found: Iterable[Batch]
    try:
        ids = _ids(column(rows, options.id_field)) if has_id else None
        texts = [_texts(column(rows, name)) for name in options.text_fields]
        found = [filter_columns(first, "row", texts, ids, options)]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        found = collect(_records(rows, first, has_id, options), options)
    used = (*options.text_fields, options.id_field)
    for batch in found:
        if not options.all_columns:
            yield batch
            continue
        others = rows.select([name for name in rows.schema.names if name not in used])
        if batch.table.num_rows < rows.num_rows:
            others = others.take(pc.subtract(batch.table["number"].combine_chunks(), first))
        yield batch._replace(others=others)


def _records(rows: pa.RecordBatch, first: int, has_id: bool, options: ReadOptions) -> Iterator[Found]:
    texts = [_values(column(rows, name)) for name in options.text_fields]
    ids = _values(column(rows, options.id_field)) if has_id else [None] * rows.num_rows
    for number, (own_id, *values) in enumerate(zip(ids, *texts, strict=True), first):
        place = f"row {number}"
        read = [decoded(value, place) if isinstance(value, bytes) else value for value in values]
        bad = [value for value in read if isinstance(value, RejectedRecord)]
        shown = own_id.decode("utf-8", "replace") if isinstance(own_id, bytes) else own_id
        yield bad[0] if bad else options.checked(number, place, joined(read), shown)


def _plain(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _values(values: pa.Array) -> list[Any]:
    """Return a text column as bytes, whose UTF-8 is checked value by value; any other column as it is."""
    values = _plain(values)
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
    values = _plain(values)
    if pa.types.is_primitive(values.type) or pa.types.is_nested(values.type):
        raise pa.ArrowInvalid("no texts")
    values = values.cast(pa.large_string())
    values.validate(full=True)
    if pc.any(pc.starts_with(values, BOM)).as_py():
        raise pa.ArrowInvalid("a byte order mark")
    return values


def _ids(values: pa.Array) -> pa.Array:
    """Return a column of texts or whole numbers as string.

    Raises:
        ArrowInvalid: It is of another type, or no UTF-8.
    """
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_integer)
    if not any(is_kind(values.type) for is_kind in kinds):
        raise pa.ArrowInvalid("ids of another kind")
    values = values.cast(pa.string())
    values.validate(full=True)
    return values
