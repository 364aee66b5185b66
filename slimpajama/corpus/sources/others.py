"""Columns besides the text: of rows of JSON, and of many files in one schema that every reader of Parquet knows.

Where files disagree on a column's type, it takes the common one (whole numbers and floats are floats, a missing column
is null); where there is none that holds every value exactly, it is text, numbers and the rest as JSON writes them.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.errors import InputError

TEXT = pa.large_string()
# Of rows whose keys make more cells than this, or of more keys, the other fields go to one column, as JSON.
MOST_CELLS, MOST_KEYS = 20_000_000, 1000
# Columns that one schema has at most.
MOST_COLUMNS = 2000
# Types that Parquet and its readers have, besides texts, bytes, lists and structs.
_STORED: tuple[Callable[[pa.DataType], bool], ...] = (
    *(pa.types.is_null, pa.types.is_boolean, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal),
    *(pa.types.is_timestamp, pa.types.is_date32, pa.types.is_time),
)
_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view)
_BYTES = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
_LISTS = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)


class DoesNotFitError(Exception):
    """A column has a value that its type in the common schema does not hold; `args[0]` names it."""


def other_names(names: Iterable[str], text_fields: Sequence[str], id_field: str) -> list[str]:
    """Return the names of the fields besides text and id: all but `text` and `id`, where those are asked for."""
    own = {"text"} if tuple(text_fields) == ("text",) else set()
    own |= {"id"} if id_field == "id" else set()
    return [name for name in names if name not in own]


def of_rows(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Return rows of JSON as columns; objects, and values of several types, as JSON."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(names) > MOST_KEYS or len(names) * len(rows) > MOST_CELLS:
        return pa.record_batch({"others": pa.array([_shown(row) for row in rows], TEXT)})
    return pa.record_batch({_shown(name): _column([row.get(name) for row in rows]) for name in names}, None)


def _column(values: list[Any]) -> pa.Array:
    try:
        if not any(isinstance(value, dict) or (isinstance(value, list) and _has_objects(value)) for value in values):
            found = pa.array(values)
            return found.cast(TEXT) if pa.types.is_string(found.type) else found
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        pass
    return pa.array([None if value is None else _shown(value) for value in values], TEXT)


def _has_objects(values: list[Any]) -> bool:
    return any(isinstance(value, dict) or (isinstance(value, list) and _has_objects(value)) for value in values)


def _shown(value: Any) -> str:
    """Return a value as text; what is no text or number, in a list as by itself; half of a surrogate pair spelt out."""
    is_json = isinstance(value, (dict, list, tuple, bool, int, float))
    text = json.dumps(value, ensure_ascii=False, default=_bare) if is_json else _bare(value)
    return text.encode("utf-8", "backslashreplace").decode()


def _bare(value: Any) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def plain_type(kind: pa.DataType) -> pa.DataType:
    """Return the type in which a column is stored; text for one that Parquet or one of its readers lacks."""
    if isinstance(kind, pa.BaseExtensionType):
        return plain_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return plain_type(kind.value_type)
    if any(is_kind(kind) for is_kind in _TEXTS):
        return TEXT
    if any(is_kind(kind) for is_kind in _BYTES):
        return pa.large_binary()
    if any(is_kind(kind) for is_kind in _LISTS):
        return pa.list_(plain_type(kind.value_type))
    if pa.types.is_struct(kind) and kind.num_fields:
        return pa.struct([(kind.field(n).name, plain_type(kind.field(n).type)) for n in range(kind.num_fields)])
    if pa.types.is_float16(kind):
        return pa.float32()
    return kind if any(is_kind(kind) for is_kind in _STORED) else TEXT


def common_schema(schemas: Iterable[pa.Schema], *, whole: bool = True) -> pa.Schema:
    """Return the one schema of several, columns in the order in which they were first seen.

    Of the `whole`, columns of nothing but nulls are texts; of a part they stay, another part may know their type.

    Raises:
        InputError: There are more than MOST_COLUMNS columns.
    """
    kinds: dict[str, dict[pa.DataType, None]] = {}
    for schema in schemas:
        for field in schema:
            kinds.setdefault(field.name, {})[plain_type(field.type)] = None
        if len(kinds) > MOST_COLUMNS:
            raise InputError(
                f"the inputs have more than {MOST_COLUMNS:,} different fields", found=", ".join(kinds)[:200]
            )
    common = {name: _common(list(found)) for name, found in kinds.items()}
    return pa.schema([(name, _without_nulls(kind) if whole else kind) for name, kind in common.items()])


def _common(kinds: list[pa.DataType]) -> pa.DataType:
    kinds = [kind for kind in kinds if not pa.types.is_null(kind)]
    if len(kinds) < 2:
        return kinds[0] if kinds else pa.null()
    mixed = ((pa.types.is_decimal, pa.types.is_floating), (pa.types.is_large_string, pa.types.is_large_binary))
    if any(any(map(a, kinds)) and any(map(b, kinds)) for a, b in mixed):
        return TEXT
    try:
        schemas = [pa.schema([("", kind)]) for kind in kinds]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return TEXT


def _without_nulls(kind: pa.DataType) -> pa.DataType:
    """Return a type in which a list or struct of nothing but nulls is one of texts, as other readers want it."""
    if pa.types.is_null(kind):
        return TEXT
    if pa.types.is_list(kind):
        return pa.list_(_without_nulls(kind.value_type))
    if pa.types.is_struct(kind):
        return pa.struct([(kind.field(n).name, _without_nulls(kind.field(n).type)) for n in range(kind.num_fields)])
    return kind


def fitted(columns: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return columns in a common schema, null where one is missing.

    Raises:
        DoesNotFitError: A value would change; the column must be text.
    """
    found = []
    for field in schema:
        place = columns.schema.get_field_index(field.name)
        if place < 0:
            found.append(pa.nulls(len(columns), field.type))
            continue
        try:
            found.append(_cast(columns.column(place), field.type))
        except (pa.ArrowException, OverflowError, ValueError):
            if field.type != TEXT:
                raise DoesNotFitError(field.name) from None
            values = columns.column(place).to_pylist()
            found.append(pa.array([None if value is None else _shown(value) for value in values], TEXT))
    return pa.table(found, schema=schema)


def joined(tables: list[pa.Table]) -> pa.Table:
    """Return tables one behind the other in their common schema; what does not fit is text."""
    schema = common_schema((table.schema for table in tables), whole=False)
    while True:
        try:
            return pa.concat_tables([fitted(table, schema) for table in tables])
        except DoesNotFitError as error:
            schema = as_text(schema, error)


def as_text(schema: pa.Schema, error: DoesNotFitError) -> pa.Schema:
    """Return a schema in which the column of an error is text."""
    name = error.args[0]
    return schema.set(schema.get_field_index(name), pa.field(name, TEXT))


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    if isinstance(column.type, pa.BaseExtensionType):
        column = column.cast(column.type.storage_type)
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    # Arrow writes 1.0 as `1` and a truth as `true`; JSON tells numbers and texts as they were.
    if kind == TEXT and not any(is_kind(plain_type(column.type)) for is_kind in (*_TEXTS, pa.types.is_integer)):
        raise pa.ArrowInvalid("no plain text")
    return column.cast(kind)
