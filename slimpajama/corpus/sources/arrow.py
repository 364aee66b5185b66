"""Arrow streams, and rows of Arrow as records: by columns or, where a value is no flawless text, row by row."""

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO
from zipfile import BadZipFile

import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.corpus.sources.fields import column, field_of, heads, ways
from slimpajama.corpus.sources.records import (
    BOM,
    Batch,
    Chunk,
    Found,
    ReadOptions,
    RejectedRecord,
    collect,
    decoded,
    failed,
    filter_columns,
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
    """Return whether a schema has a column."""
    return any(True for _ in ways(pa.struct(list(schema)), name))


def batches_of(rows: pa.RecordBatch, first: int, options: ReadOptions) -> Iterator[Batch]:
    """Yield the records of validated rows; `first` is the number of the first one."""
    found: Iterable[Batch]
    try:
        ids = _ids(_only(rows, options.id_field)) if has_column(rows.schema, options.id_field) else None
        texts = [_texts(_only(rows, name)) for name in options.text_fields]
        if options.html:
            raise pa.ArrowInvalid("texts that are parsed one by one")
        found = [filter_columns(first, "row", texts, ids, options)]
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        found = collect(_records(rows, first, options), options)
    others = rows.select(options.others(rows.schema.names))
    for batch in found:
        yield batch.beside(others, first) if options.all_columns else batch


def _only(rows: pa.RecordBatch, name: str) -> pa.Array:
    """Return the column that a name leads to.

    Raises:
        ArrowInvalid: It leads through lists, or there are several.
    """
    found = list(ways(pa.struct(list(rows.schema)), name))
    if len(found) != 1 or found[0] is None:
        raise pa.ArrowInvalid("no column of its own")
    return column(rows, found[0])


def _records(rows: pa.RecordBatch, first: int, options: ReadOptions) -> Iterator[Found]:
    names = sorted(set().union(*(heads(rows.schema.names, name) for name in (*options.text_fields, options.id_field))))
    # As bytes, so that UTF-8 is checked value by value.
    table = pa.table({name: rows[name].cast(_binary(rows[name].type)) for name in names})
    for number, row in enumerate(table.to_pylist(), first):
        place = f"row {number}"
        values = [_decoded(field_of(row, name), place) for name in options.text_fields]
        bad = [value for value in values if isinstance(value, RejectedRecord)]
        own_id = field_of(row, options.id_field) if options.id_field else None
        shown = own_id.decode("utf-8", "replace") if isinstance(own_id, bytes) else own_id
        yield bad[0] if bad else options.record(number, place, values, shown)


def _decoded(value: Any, place: str) -> Any:
    """Return the texts of a value that are bytes, or why one is no text."""
    if isinstance(value, tuple):
        values = [_decoded(one, place) for one in value]
        return next((one for one in values if isinstance(one, RejectedRecord)), tuple(values))
    return decoded(value, place) if isinstance(value, bytes) else value


def _plain(values: pa.Array) -> pa.Array:
    return values.dictionary_decode() if pa.types.is_dictionary(values.type) else values


def _binary(kind: pa.DataType) -> pa.DataType:
    """Return a type with bytes in place of texts."""
    if pa.types.is_dictionary(kind):
        return _binary(kind.value_type)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return pa.large_binary()
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return pa.large_list(_binary(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(kind.field(n).name, _binary(kind.field(n).type)) for n in range(kind.num_fields)])
    return kind


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
