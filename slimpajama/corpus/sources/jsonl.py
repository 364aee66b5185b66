"""JSON lines: flawless ones by Arrow, five times as fast; the others line by line, so that one costs one record."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.json

from slimpajama.corpus.sources.records import (
    Bad,
    Batch,
    Piece,
    Record,
    Want,
    checked,
    collect,
    column,
    decoded,
    joined,
    seen,
    sift,
    too_large,
)
from slimpajama.corpus.sources.streams import TooLong, blocks, chunks

# Python's parser gives up somewhere below 1,000, depending on who calls it.
MAX_DEPTH = 500
_STRING = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


def read_jsonl(file: BinaryIO, name: str, want: Want) -> Iterator[Piece]:
    """Yield whole lines, to be parsed anywhere."""
    for number, data in chunks(blocks(file, name), want.batch_bytes, want.max_document_bytes):
        yield Piece(partial(_parse, number, data, want), file.tell())


def _parse(first: int, data: bytes | TooLong, want: Want) -> Iterable[Batch]:
    if isinstance(data, bytes) and not data.strip():
        # At once: a bomb may hold nothing but ends of lines.
        return []
    batch = None if isinstance(data, TooLong) else _parse_flawless(first, data, want)
    return collect(_records(first, data, want), want) if batch is None else [batch]


def _parse_flawless(first: int, data: bytes, want: Want) -> Batch | None:
    """Return the batch of lines that are one JSON object each with nothing unusual, else None."""
    array = np.frombuffer(data, np.uint8)
    feeds = np.flatnonzero(array[:-1] == ord("\n"))  # between lines
    starts, ends = np.append(0, feeds + 1), np.append(feeds, len(array) - data.endswith(b"\n"))
    ends -= array[ends - 1] == ord("\r")
    # A line feed between `}` and `{` cannot stand inside an object, so as many objects as lines are one a line.
    borders = (array[starts] == ord("{")).all() and (array[ends - 1] == ord("}")).all()
    if len(data) > want.max_document_bytes or not borders or not _is_utf8(data) or _too_deep(array, starts, ends):
        return None
    for id_type in (pa.string(), pa.int64()) if want.id_field else (pa.null(),):
        types = dict.fromkeys((tuple(name.split(".")) for name in want.text_fields), pa.large_string())
        types |= {tuple(want.id_field.split(".")): id_type} if want.id_field else {}
        parsing = pa.json.ParseOptions(explicit_schema=pa.schema(_fields(types)), unexpected_field_behavior="ignore")
        reading = pa.json.ReadOptions(use_threads=False, block_size=len(data) + 1)
        try:
            table = pa.json.read_json(pa.BufferReader(data), reading, parsing)
            texts = [column(table, name).cast(pa.large_string()) for name in want.text_fields]
            ids = column(table, want.id_field).cast(pa.string()) if want.id_field else None
        except (pa.ArrowException, LookupError):
            continue
        return sift(first, "line", texts, ids, want) if table.num_rows == len(ends) else None
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


def _records(first: int, data: bytes | TooLong, want: Want) -> Iterator[Record | Bad]:
    lines: list[bytes | TooLong] = [data] if isinstance(data, TooLong) else [*data.split(b"\n")]
    for number, line in enumerate(lines, first):
        place = f"line {number}"
        if isinstance(line, TooLong) or len(line) > want.max_document_bytes:
            length = line if isinstance(line, TooLong) else TooLong(len(line))
            yield too_large(place, length, want.max_document_bytes)
        elif line.strip():
            yield _record(line, number, place, want)


def _record(line: bytes, number: int, place: str, want: Want) -> Record | Bad:
    data = parse_object(line, place)
    if isinstance(data, Bad):
        return data
    texts = [field_of(data, name) for name in want.text_fields]
    return checked(number, place, joined(texts), field_of(data, want.id_field) if want.id_field else None, want)


def parse_object(line: bytes, place: str) -> dict[str, Any] | Bad:
    """Return the JSON object of a line, or why it is none."""
    text = decoded(line, place)
    if isinstance(text, Bad):
        return text
    try:
        if line.count(b"[") + line.count(b"{") > MAX_DEPTH and _depth(line) > MAX_DEPTH:
            raise RecursionError
        data = json.loads(text, parse_int=_integer)
    except RecursionError:
        return Bad(place, "not-json", "nested too deeply", "one JSON object")
    except ValueError as error:
        return Bad(place, "not-json", seen(error), "one JSON object")
    return data if isinstance(data, dict) else Bad(place, "not-json", f"a {type(data).__name__}", "one JSON object")


def _integer(digits: str) -> int | float:
    # Python refuses to read longer ones.
    return int(digits) if len(digits) <= 4300 else float(digits)


def field_of(data: Any, name: str) -> Any:
    """Return the value of a field, where a dot leads into a nested object; None where there is none."""
    for key in name.split("."):
        data = data.get(key) if isinstance(data, dict) else None
    return data
