"""JSON lines: flawless ones by Arrow, five times as fast; the others line by line, so that one costs one record.

What is no JSON lines (an array, an object over several lines) is made so; records are elements then.
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json

from slimpajama.corpus.sources.decoding import text_blocks, with_notes
from slimpajama.corpus.sources.elements import MAX_DEPTH, element_lines, has_lines, peeked
from slimpajama.corpus.sources.fields import EACH, column, field_of, splits
from slimpajama.corpus.sources.others import of_rows
from slimpajama.corpus.sources.records import (
    NO_FIELD,
    Batch,
    Chunk,
    Found,
    Note,
    ReadOptions,
    Record,
    RejectedRecord,
    collect,
    decoded,
    filter_columns,
    lines_of,
    seen,
)
from slimpajama.corpus.sources.streams import TooLong, whole_lines

_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def read_jsonl(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Chunk]:
    """Yield whole lines, or elements as lines, to be parsed anywhere."""
    notes: list[Note] = []
    yield from with_notes(json_chunks(text_blocks(file, name, options, notes), file, options), notes)


def json_chunks(stream: Iterator[bytes], file: BinaryIO, options: ReadOptions) -> Iterator[Chunk]:
    """Yield the chunks of a stream out of a file."""
    for noun, number, data in numbered_lines(stream, options.batch_bytes, options.max_document_bytes):
        yield Chunk(partial(_parse, noun, number, data, options), file.tell())


def numbered_lines(stream: Iterator[bytes], size: int, limit: int) -> Iterator[tuple[str, int, bytes | TooLong]]:
    """Yield what is counted, `line` or `element`, and what `whole_lines` or `element_lines` yields."""
    head, stream = peeked(stream)
    if has_lines(head):
        noun, found = "line", whole_lines(stream, size, limit)
    else:
        noun, found = "element", element_lines(head, stream, size, limit)
    return ((noun, number, data) for number, data in found)


def _parse(noun: str, first: int, data: bytes | TooLong, options: ReadOptions) -> Iterable[Batch]:
    if isinstance(data, bytes) and not data.strip():
        # Answer at once: a bomb may hold nothing but ends of lines.
        return []
    batch = None if isinstance(data, TooLong) else _parse_flawless(noun, first, data, options)
    batches = collect(_records(noun, first, data, options), options) if batch is None else [batch]
    return (_with_keys(batch, first, data) for batch in batches)


def _with_keys(batch: Batch, first: int, data: bytes | TooLong) -> Batch:
    """Return a batch whose refusals name the keys that a record has where it lacks the field, longest text first."""
    if isinstance(data, TooLong) or all(bad.value != NO_FIELD for bad in batch.rejected):
        return batch
    lines = data.split(b"\n")

    def named(bad: RejectedRecord) -> RejectedRecord:
        row = parse_object(lines[int(bad.place.rpartition(" ")[2]) - first], "") if bad.value == NO_FIELD else None
        if not isinstance(row, dict):
            return bad
        keys = [key for key, value in row.items() if value is not None]
        keys.sort(key=lambda key: len(row[key]) if isinstance(row[key], str) else -1, reverse=True)
        return replace(bad, value=seen(f"{NO_FIELD}; its keys: {', '.join(keys) or 'none'}"))

    return batch._replace(rejected=list(map(named, batch.rejected)))


def _parse_flawless(noun: str, first: int, data: bytes, options: ReadOptions) -> Batch | None:
    """Return the batch of lines that are one JSON object each with nothing unusual, else None."""
    array = np.frombuffer(data, np.uint8)
    feeds = np.flatnonzero(array[:-1] == ord("\n"))  # between lines
    starts, ends = np.append(0, feeds + 1), np.append(feeds, len(array) - data.endswith(b"\n"))
    ends -= array[ends - 1] == ord("\r")
    # A line feed between `}` and `{` is never inside an object. So as many objects as lines are one a line.
    borders = (array[starts] == ord("{")).all() and (array[ends - 1] == ord("}")).all()
    if len(data) > options.max_document_bytes or not borders or not _is_utf8(data) or _too_deep(array, starts, ends):
        return None
    texts_at, id_at = [_ways(name) for name in options.text_fields], _ways(options.id_field)
    if options.html or not all(texts_at):
        return None
    ids_are = (pa.string(), pa.int64()) if options.id_field else (pa.null(),)
    # An error tells that there are other fields.
    for unexpected, id_type in product(("error", "ignore") if options.all_columns else ("ignore",), ids_are):
        types = dict.fromkeys((way for ways in texts_at for way in ways), pa.large_string())
        types |= dict.fromkeys(id_at, id_type)
        parsing = pa.json.ParseOptions(explicit_schema=pa.schema(_fields(types)), unexpected_field_behavior=unexpected)
        reading = pa.json.ReadOptions(use_threads=False, block_size=len(data) + 1)
        try:
            table = pa.json.read_json(pa.BufferReader(data), reading, parsing)
            texts = [_first_of(table, ways).cast(pa.large_string()) for ways in texts_at]
            ids = _first_of(table, id_at).cast(pa.string()) if options.id_field else None
        except (pa.ArrowException, LookupError):
            continue
        if table.num_rows != len(ends):
            return None
        batch = filter_columns(first, noun, texts, ids, options)
        if not options.all_columns or unexpected == "error":
            return batch
        rows = [parse_object(line, "") for line in data.splitlines()]
        found = [_others(row, options) for row in rows if isinstance(row, dict)]
        return batch.beside(of_rows(found), first) if len(found) == table.num_rows and any(found) else None
    return None


def _others(row: dict[str, Any], options: ReadOptions) -> dict[str, Any]:
    return {name: row[name] for name in options.others(row)}


def _ways(name: str) -> list[tuple[str, ...]]:
    """Return the ways that a name may lead, the longest key first; none where it leads through lists, or too many."""
    heads = [] if EACH in name or name.count(".") > 3 else splits(name) if name else []
    return [(key, *way) for key, rest in heads for way in (_ways(rest) if rest else [()])]


def _first_of(table: pa.Table, ways: list[tuple[str, ...]]) -> pa.Array:
    found = [column(table, way) for way in ways]
    return pc.coalesce(*found) if len(found) > 1 else found[0]


def _fields(types: dict[tuple[str, ...], pa.DataType]) -> list[pa.Field]:
    """Return the fields of nested names; where a name is also another's parent, the parsing fails."""
    heads = dict.fromkeys(path[0] for path in types)
    inner = {head: {path[1:]: kind for path, kind in types.items() if path[0] == head} for head in heads}
    return [pa.field(head, some[()] if () in some else pa.struct(_fields(some))) for head, some in inner.items()]


def _is_utf8(data: bytes) -> bool:
    offsets = pa.py_buffer(np.array([0, len(data)], np.int64))
    try:
        pa.Array.from_buffers(pa.large_string(), 1, [None, offsets, pa.py_buffer(data)]).validate(full=True)
    except pa.ArrowInvalid:
        return False
    return True


def _too_deep(array: npt.NDArray[np.uint8], starts: npt.NDArray[np.int64], ends: npt.NDArray[np.int64]) -> bool:
    """Whether a line is nested deeper than `MAX_DEPTH`; that takes as many brackets."""
    opens = (array | 32) == ord("{")  # or `[`
    if np.count_nonzero(opens) < MAX_DEPTH + len(starts):
        return False
    places = np.flatnonzero(opens)
    suspects = np.searchsorted(places, ends) - np.searchsorted(places, starts) > MAX_DEPTH
    return any(_depth(array[starts[line] : ends[line]].tobytes()) > MAX_DEPTH for line in np.flatnonzero(suspects))


def _depth(line: bytes) -> int:
    bare = np.frombuffer(_STRING.sub(b"", line), np.uint8)
    opens, closes = (bare == ord("[")) | (bare == ord("{")), (bare == ord("]")) | (bare == ord("}"))
    return int(np.cumsum(opens.astype(np.int32) - closes).max(initial=0))


def _records(noun: str, first: int, data: bytes | TooLong, options: ReadOptions) -> Iterator[Found]:
    notes: list[Note] = []
    for number, place, row in objects(noun, first, data, options.max_document_bytes, notes):
        if isinstance(row, RejectedRecord):
            yield row
        else:
            values = [field_of(row, name) for name in options.text_fields]
            own_id = field_of(row, options.id_field) if options.id_field else None
            found = options.record(number, place, values, own_id, notes)
            if options.all_columns and isinstance(found, Record):
                found = replace(found, others=_others(row, options))
            yield found
        notes.clear()


def objects(
    noun: str, first: int, data: bytes | TooLong, limit: int, notes: list[Note] | None = None
) -> Iterator[tuple[int, str, dict[str, Any] | RejectedRecord]]:
    """Yield number, place and JSON object of each line with text, or why it is none; arguments as for `lines_of`.

    `notes` is `decoded`'s.
    """
    for number, line in lines_of(first, data, limit, noun):
        place = f"{noun} {number}"
        if isinstance(line, RejectedRecord):
            yield number, place, line
        elif line.strip():
            yield number, place, parse_object(line, place, notes)


def parse_object(line: bytes, place: str, notes: list[Note] | None = None) -> dict[str, Any] | RejectedRecord:
    """Return the JSON object of a line, or why it is none."""
    text = decoded(line, place, notes)
    if isinstance(text, RejectedRecord):
        return text
    try:
        if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(line) > MAX_DEPTH:
            raise RecursionError
        data = json.loads(text, parse_int=_integer)
        if isinstance(data, dict):
            return data
        found = f"a {type(data).__name__}"
    except RecursionError:
        found = "nested too deeply"
    except ValueError as error:
        found = seen(error)
    return RejectedRecord(place, "not-json", found, "one JSON object")


def _integer(digits: str) -> int | float:
    # Python refuses to read a longer number.
    return int(digits) if len(digits) <= 4300 else float(digits)
