"""JSON lines: flawless ones by Arrow, five times as fast; the others line by line, so that one costs one record."""

import json
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json

from slimpajama.corpus.sources.decoding import utf8_blocks, with_notes
from slimpajama.corpus.sources.records import (
    Batch,
    Chunk,
    Found,
    Note,
    ReadOptions,
    RejectedRecord,
    collect,
    column,
    decoded,
    filter_columns,
    joined,
    lines_of,
    seen,
)
from slimpajama.corpus.sources.streams import TooLong, blocks, whole_lines

# Python's parser fails somewhere below a depth of 1,000: where depends on its caller.
MAX_DEPTH = 500
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def read_jsonl(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Chunk]:
    """Yield whole lines, to be parsed anywhere."""
    notes: list[Note] = []
    lines = utf8_blocks(blocks(file, name), options.encoding, notes)
    found = whole_lines(lines, options.batch_bytes, options.max_document_bytes)
    yield from with_notes((Chunk(partial(_parse, *some, options), file.tell()) for some in found), notes)


def _parse(first: int, data: bytes | TooLong, options: ReadOptions) -> Iterable[Batch]:
    if isinstance(data, bytes) and not data.strip():
        # Answer at once: a bomb may hold nothing but ends of lines.
        return []
    batch = None if isinstance(data, TooLong) else _parse_flawless(first, data, options)
    return collect(_records(first, data, options), options) if batch is None else [batch]


def _parse_flawless(first: int, data: bytes, options: ReadOptions) -> Batch | None:
    """Return the batch of lines that are one JSON object each with nothing unusual, else None."""
    array = np.frombuffer(data, np.uint8)
    feeds = np.flatnonzero(array[:-1] == ord("\n"))  # between lines
    starts, ends = np.append(0, feeds + 1), np.append(feeds, len(array) - data.endswith(b"\n"))
    ends -= array[ends - 1] == ord("\r")
    # A line feed between `}` and `{` is never inside an object. So as many objects as lines are one a line.
    borders = (array[starts] == ord("{")).all() and (array[ends - 1] == ord("}")).all()
    if len(data) > options.max_document_bytes or not borders or not _is_utf8(data) or _too_deep(array, starts, ends):
        return None
    for id_type in (pa.string(), pa.int64()) if options.id_field else (pa.null(),):
        types = dict.fromkeys((tuple(name.split(".")) for name in options.text_fields), pa.large_string())
        types |= {tuple(options.id_field.split(".")): id_type} if options.id_field else {}
        parsing = pa.json.ParseOptions(explicit_schema=pa.schema(_fields(types)), unexpected_field_behavior="ignore")
        reading = pa.json.ReadOptions(use_threads=False, block_size=len(data) + 1)
        try:
            table = pa.json.read_json(pa.BufferReader(data), reading, parsing)
            texts = [column(table, name).cast(pa.large_string()) for name in options.text_fields]
            ids = column(table, options.id_field).cast(pa.string()) if options.id_field else None
        except (pa.ArrowException, LookupError):
            continue
        return filter_columns(first, "line", texts, ids, options) if table.num_rows == len(ends) else None
    return None


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


def _records(first: int, data: bytes | TooLong, options: ReadOptions) -> Iterator[Found]:
    notes: list[Note] = []
    for number, place, row in objects(first, data, options.max_document_bytes, notes):
        if isinstance(row, RejectedRecord):
            yield row
        else:
            text, own_id = joined([field_of(row, name) for name in options.text_fields]), options.id_field
            yield options.checked(number, place, text, field_of(row, own_id) if own_id else None, notes)
        notes.clear()


def objects(
    first: int, data: bytes | TooLong, limit: int, notes: list[Note] | None = None
) -> Iterator[tuple[int, str, dict[str, Any] | RejectedRecord]]:
    """Yield number, place and JSON object of each line with text, or why it is none; arguments as for `lines_of`.

    `notes` is `decoded`'s.
    """
    for number, line in lines_of(first, data, limit):
        place = f"line {number}"
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


def field_of(data: Any, name: str) -> Any:
    """Return the value of a field, where a dot leads into a nested object; None where there is none."""
    for key in name.split("."):
        data = data.get(key) if isinstance(data, dict) else None
    return data
