"""Fields by the names that `text_field` and `id_field` give them, alike in rows of JSON and in Arrow's columns.

A dot leads into what is nested, through lists, too (`段落.内容`), and `[]` behind a name takes a list's own values. A
key that holds a dot itself goes first: `a.text` is the key `a.text`, else the key `text` of `a`.
"""

from collections.abc import Iterator
from functools import cache
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

EACH = "[]"
# The keys from the top to a value; None where a list is on the way.
Way = tuple[str, ...] | None


@cache
def splits(name: str) -> tuple[tuple[str, str], ...]:
    """Return what may be the first key of a name, the longest first, and the name of the rest."""
    keys = name.split(".")
    cuts = ((".".join(keys[:n]), ".".join(keys[n:])) for n in range(len(keys), 0, -1))
    return tuple(dict.fromkeys(split for key, rest in cuts for split in ((key, rest), (key.removesuffix(EACH), rest))))


def field_of(row: Any, name: str) -> Any:
    """Return the value of a field in a row of JSON, the first that is not null; a tuple where there are lists."""
    if isinstance(row, list):
        found = (field_of(item, name) for item in row)
        values = (value for item in found for value in (item if isinstance(item, tuple) else (item,)))
        return tuple(value for value in values if value is not None) or (None if row else ())
    if not isinstance(row, dict):
        return None
    if (value := row.get(name)) is not None:
        return value
    for key, rest in splits(name):
        value = row.get(key)
        if value is not None and rest:
            value = field_of(value, rest)
        elif isinstance(value, list) and key != name:
            value = tuple(value)
        if value is not None:
            return value
    return None


def ways(kind: pa.DataType, name: str) -> Iterator[Way]:
    """Yield the ways that a name leads through an Arrow type, in the order in which `field_of` tries them."""
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        yield from (None for _ in ways(kind.value_type, name))
    if not pa.types.is_struct(kind):
        return
    for key, rest in splits(name):
        place = kind.get_field_index(key)
        if place >= 0 and rest:
            yield from (way and (key, *way) for way in ways(kind.field(place).type, rest))
        elif place >= 0:
            yield (key,) if key == name else None


def column(table: pa.Table | pa.RecordBatch, way: tuple[str, ...]) -> pa.Array:
    """Return the column at the end of a way."""
    found = table[way[0]]
    found = found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found
    for key in way[1:]:
        found = pc.struct_field(found, key)
    return found


def heads(names: list[str], name: str) -> set[str]:
    """Return those of a table's columns that a name may lead into."""
    return {key for key, _ in splits(name)} & set(names)
