"""Records as Arrow columns, and what is wrong with those that cannot be used."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.errors import printable
from slimpajama.corpus.sources.html import TreeTooLargeError, field_text
from slimpajama.corpus.sources.others import of_rows, other_names
from slimpajama.corpus.sources.streams import BLOCK, TooLong, UntilBroken

# What a record or a file is refused for, and what was seen.
RULES = {
    "empty-file": "a file without a byte, or without a record",
    "no-files": "a source without a file",
    "left-out": "in a folder: notes (README, LICENSE, `state.json`, `_*`) and caches (`cache-*.arrow`) beside the data",
    "unknown-format": "a file name that says nothing of its format",
    "unreadable": "a file or the rest of it that the disk or network does not give, or that is not of its format",
    "truncated": "a compressed file or a record that ends early",
    "damaged": "a compressed file or an archive that is not what it should be",
    "too-large": "a record above `max_document_mb`, or an archive that unpacks to more than 200 times its size",
    "invalid-utf8": "more bytes that are no UTF-8 than one in 500, or any in a record below 100 bytes",
    "unknown-encoding": "text in none of UTF-8, GB18030, Big5, UTF-16 and windows-1252, or not in what is set",
    "not-json": "a line that is no JSON object, or is nested too deeply",
    "not-csv": "a row that is not as RFC 4180 has it",
    "too-deep": "a web page nested too deeply to be parsed in bounded time",
    "encrypted": "a document that needs a password or a key",
    "no-text-layer": "a PDF without text, such as a scan",
    "no-text": "a missing, empty or non-text field",
    "has-nul": "a NUL character: binary data",
    "lone-surrogate": "half of a UTF-16 pair in a JSON escape",
}
# What there may be to say of what was read.
NOTES = {
    "detected-encoding": "the encoding that was detected, with its confidence",
    "replaced-bytes": "bytes that are none of the encoding; U+FFFD stands for each",
    "extra-cells": "a row of CSV with more cells than the header has; they are left out",
    "passed-over": "records of a web archive that are no page: how many, by status or media type",
}
# A byte order mark, and what stands for bytes that cannot be read.
BOM, MARK = "\ufeff", "\ufffd"
# Bytes of a record for each that may be replaced. A record below the second may have none, any other one.
BYTES_A_MARK, LEAST_BYTES = 500, 100
# Bytes that a record costs besides its text, so that batches of bad or tiny records are bounded, too.
ROW_BYTES = 200
# What is seen of a record without the field that holds the text.
NO_FIELD = "no such field"


@dataclass(frozen=True, slots=True)
class Note:
    """What there is to say of something that was read."""

    rule: str
    value: str
    threshold: str = ""


@dataclass(frozen=True, slots=True)
class Record:
    """One document as it was read."""

    number: int
    """Line, row or, where the file is the document, 1."""
    text: str
    own_id: str | None = None
    """The source's own id, where the record has one."""
    notes: tuple[Note, ...] = ()
    others: Mapping[str, Any] | None = None
    """Its other fields, where they are asked for."""


@dataclass(frozen=True, slots=True)
class RejectedRecord:
    """What could not be read, and why."""

    place: str
    """`line 17`, `row 3`, or empty for the file as a whole."""
    rule: str
    value: str
    threshold: str = ""


Found = Record | RejectedRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadOptions:
    """What is taken from a file, and within which bounds."""

    max_document_bytes: int
    """UTF-8 bytes of a record as it stands in the file."""
    format: str = "auto"
    encoding: str = "auto"
    """Name of the encoding; `auto` finds it out."""
    delimiter: str = "auto"
    """Between the cells of CSV."""
    quote: str = "auto"
    """Around cells of CSV; empty for none."""
    extract: str = "main"
    """`main` or `all` of a web page."""
    text_fields: tuple[str, ...] = ("text",)
    """Fields that hold the text, as `fields.py` finds them; several are joined by a blank line."""
    id_field: str = ""
    """Field of the record's own id; empty for none."""
    batch_bytes: int = BLOCK
    """About how much of a file is parsed at once."""
    batch_rows: int = 256
    """Rows of a Parquet file at once; times the longest record this is what a file can make us hold."""
    all_columns: bool = False
    """Keep the other fields, too."""
    any_text: bool = False
    """Take empty texts and NUL characters as they are."""
    split: str = "file"
    """What one document of plain text is: `file`, `line` or `blank`, for what stands between blank lines."""
    html: bool = False
    """Take of a field what a reader sees of it."""

    def record(
        self, number: int, place: str, values: Sequence[object], own_id: object, notes: Iterable[Note] = ()
    ) -> Found:
        """Return the record of the values of its text fields, or why it is none."""
        try:
            text = joined([_seen_of(value) for value in values] if self.html else values)
        except TreeTooLargeError as error:
            return RejectedRecord(place, "too-deep", str(error), "a field that is parsed in seconds")
        return self.checked(number, place, text, joined([own_id]) if isinstance(own_id, tuple) else own_id, notes)

    def checked(self, number: int, place: str, text: object, own_id: object, notes: Iterable[Note] = ()) -> Found:
        """Return the record of a text, or why it is none."""
        if not isinstance(text, str):
            value = f"a {type(text).__name__}" if text is not None else NO_FIELD
            wanted = "a text; [] behind the name takes those of a list" if isinstance(text, list) else "a text"
            return RejectedRecord(place, "no-text", value, wanted)
        if not self.any_text and (not text or text.isspace()):
            return RejectedRecord(place, "no-text", "an empty text", "a text")
        if not self.any_text and "\0" in text:
            return RejectedRecord(place, "has-nul", f"NUL at character {text.index(chr(0)) + 1}", "no NUL")
        try:
            n_bytes = len(text.encode())
        except UnicodeEncodeError as error:
            half = f"U+{ord(text[error.start]):04X} at character {error.start + 1}"
            return RejectedRecord(place, "lone-surrogate", half, "valid Unicode")
        if n_bytes > self.max_document_bytes:
            return too_large(place, TooLong(n_bytes), self.max_document_bytes)
        return Record(number, text, None if own_id is None else _valid(str(own_id)), tuple(notes))

    def others(self, names: Iterable[str]) -> list[str]:
        """Return which fields are kept beside text and id."""
        return other_names(names, self.text_fields, self.id_field) if self.all_columns else []

    def missing_column(self, has: Callable[[str], bool], names: list[str]) -> RejectedRecord | None:
        """Return that a table of columns `names` lacks a text column, or None; `has` follows dots into structs."""
        missing = [name for name in self.text_fields if not has(name)]
        shown = f"columns {seen(', '.join(names))}"
        return RejectedRecord("", "no-text", shown, f"a column {missing[0]}") if missing else None


class Batch(NamedTuple):
    """Some records of a file, in its order."""

    table: pa.Table
    """`number` (int64), `id` (the record's own, string, may be null), `text` (large_string) and what else is kept."""
    rejected: list[RejectedRecord]
    others: pa.RecordBatch | None = None
    """The same rows' other columns, where they were asked for."""
    notes: tuple[tuple[int, Note], ...] = ()
    """By the record's number, 0 for the file."""

    def beside(self, others: pa.RecordBatch, first: int) -> "Batch":
        """Return the batch with its rows of other columns, which begin at row `first`."""
        if self.table.num_rows < others.num_rows:
            others = others.take(pc.subtract(self.table["number"].combine_chunks(), first))
        return self._replace(others=others)

    @property
    def cost(self) -> int:
        """About how many bytes of memory it stands for."""
        return int(self.table["text"].nbytes + ROW_BYTES * (self.table.num_rows + len(self.rejected)))


class Chunk(NamedTuple):
    """A part of a file that any thread may parse."""

    read: Callable[[], Iterable[Batch]]
    position: int
    """Bytes of the file, as it lies there, that are read by now."""
    again: bool = False
    """Whether `read` goes back to the file and can be called any number of times."""


def parsed(batch: Batch, position: int) -> Chunk:
    """Return the chunk of a batch that was parsed where it was read."""
    return Chunk(partial(iter, [batch]), position)


def failed(bad: RejectedRecord, position: int = 0) -> Chunk:
    """Return what takes the place of a file, or the rest of it, that cannot be read."""
    return parsed(_batch([], [bad]), position)


def noted(notes: Iterable[Note], position: int) -> Chunk:
    """Return the chunk of what there is to say of a file."""
    return parsed(_batch([], [])._replace(notes=tuple((0, note) for note in notes)), position)


def lines_of(
    first: int, data: bytes | TooLong, limit: int, noun: str = "line"
) -> Iterator[tuple[int, bytes | RejectedRecord]]:
    """Yield the number and the bytes of each line, or that it is longer than `limit` bytes.

    Args:
        first: Number of the first line.
        data: Whole lines, or one that was skipped.
        limit: Most bytes of a line.
        noun: What a line holds.
    """
    if isinstance(data, TooLong):
        yield first, too_large(f"{noun} {first}", data, limit)
        return
    for number, line in enumerate(data.split(b"\n"), first):
        yield number, line if len(line) <= limit else too_large(f"{noun} {number}", TooLong(len(line)), limit)


def seen(value: object) -> str:
    """Return a value out of a corpus as one short line."""
    return printable(value, 200)


def too_large(place: str, found: TooLong, limit: int) -> RejectedRecord:
    """Return the record of something above `limit` bytes."""
    value = f"{found.n_bytes} bytes" if found.complete else f"more than {limit} bytes"
    return RejectedRecord(place, "too-large", value, f"at most {limit} bytes")


def most_marks(data: bytes) -> int:
    """Return how many marks a record may have in place of its bytes."""
    return max(1, len(data) // BYTES_A_MARK) if len(data) >= LEAST_BYTES else 0


def decoded(
    data: bytes, place: str, notes: list[Note] | None = None, encoding: str = "utf-8", errors: str = "replace"
) -> str | RejectedRecord:
    """Return bytes as text without a byte order mark.

    Args:
        data: Bytes of a record.
        place: Where it stands.
        notes: Takes how many bytes were replaced; without it none are, and one that is wrong costs the record.
        encoding: Python's name.
        errors: Name of what puts the marks.
    """
    try:
        return data.decode(encoding).removeprefix(BOM)
    except UnicodeDecodeError as error:
        shown = f"bytes {data[error.start : error.start + 4].hex(' ')} at byte {error.start + 1}"
    most = most_marks(data) if notes is not None else 0
    text = data.decode(encoding, errors).removeprefix(BOM)
    marks = max(1, text.count(MARK) - (data.count(MARK.encode()) if encoding == "utf-8" else 0))
    if notes is None or marks > most:
        rule = "invalid-utf8" if encoding == "utf-8" else "unknown-encoding"
        return RejectedRecord(place, rule, shown, f"valid {encoding.upper()}")
    notes.append(Note("replaced-bytes", f"{marks}: {shown}", f"at most {most}, of {len(data)} bytes"))
    return text


def joined(values: Sequence[object], between: str = "\n\n") -> object:
    """Return several values as one text, those of a list a line each, or the first that is none; one as it is."""
    values = [joined(("", *value), "\n") if isinstance(value, tuple) else value for value in values]
    if len(values) == 1:
        return values[0]
    there = [value for value in values if value is not None and value != ""]
    wrong = [value for value in there if not isinstance(value, str)]
    return wrong[0] if wrong else between.join(str(value) for value in there)


def _seen_of(value: object) -> object:
    if isinstance(value, tuple):
        return tuple(map(_seen_of, value))
    return field_text(value) if isinstance(value, str) else value


def _valid(text: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        # It holds half of a surrogate pair, or bytes that are not UTF-8.
        return printable(text)
    return text


def collect(items: Iterable[Found], options: ReadOptions) -> Iterator[Batch]:
    """Gather single records into batches of about `options.batch_bytes`."""
    good: list[Record] = []
    bad: list[RejectedRecord] = []
    size = 0
    whole = UntilBroken(items)
    for item in whole:
        if isinstance(item, Record):
            good.append(item)
            size += len(item.text)
        else:
            bad.append(item)
        size += ROW_BYTES
        if size >= options.batch_bytes:
            yield _batch(good, bad)
            good, bad, size = [], [], 0
    if good or bad:
        yield _batch(good, bad)
    whole.check()


def _batch(good: list[Record], bad: list[RejectedRecord]) -> Batch:
    columns = {
        "number": pa.array([record.number for record in good], pa.int64()),
        "id": pa.array([record.own_id for record in good], pa.string()),
        "text": pa.array([record.text for record in good], pa.large_string()),
    }
    notes = tuple((record.number, note) for record in good for note in record.notes)
    rows = [record.others for record in good if record.others is not None]
    return Batch(pa.table(columns), bad, of_rows(rows) if any(rows) else None, notes)


def filter_columns(first: int, noun: str, texts: list[pa.Array], ids: pa.Array | None, options: ReadOptions) -> Batch:
    """Return the batch of columns whose UTF-8 is valid; only rows that look wrong are checked one by one.

    Args:
        first: Number of the first row.
        noun: `line` or `row`.
        texts: Columns of type large_string, joined row by row.
        ids: Their own ids as string, or None.
        options: Bounds.
    """
    numbers = pa.array(range(first, first + len(texts[0])), pa.int64())
    text = texts[0]
    if len(texts) > 1:
        there = [pc.if_else(pc.equal(pc.binary_length(values), 0), None, values) for values in texts]
        none = reduce(pc.and_, map(pc.is_null, there))
        # Joining would skip a row of nulls, and the rows after it would move up.
        there[0] = pc.if_else(none, "", there[0])
        text = pc.binary_join_element_wise(*there, pa.scalar("\n\n", pa.large_string()), null_handling="skip")
        text = pc.if_else(none, None, text)
    table = pa.table({"number": numbers, "id": pa.nulls(len(text), pa.string()) if ids is None else ids, "text": text})
    length = pc.fill_null(pc.binary_length(text), 0 if not options.any_text else options.max_document_bytes + 1)
    odd = pc.greater(length, options.max_document_bytes)
    if not options.any_text:
        odd = pc.or_(odd, pc.or_(pc.equal(length, 0), pc.fill_null(pc.utf8_is_space(text), True)))
        data = text.buffers()[2]
        if data is not None and b"\0" in data.to_pybytes():
            odd = pc.or_(odd, pc.fill_null(pc.match_substring(text, "\0"), True))
    keep, bad = ~odd.to_numpy(zero_copy_only=False), []
    for row in np.flatnonzero(~keep).tolist():
        item = options.checked(first + row, f"{noun} {first + row}", text[row].as_py(), None)
        if isinstance(item, RejectedRecord):
            bad.append(item)
        else:
            keep[row] = True
    return Batch(table.filter(pa.array(keep)) if bad else table, bad)


def document_id(source: str, place: str, text: str) -> str:
    """Return a document's id: 32 hex digits of SHA-256 over its source's name, its place in there and its text.

    Each part is preceded by its length, so no two different triples are hashed alike.
    """
    parts = b"".join(framed(part.encode()) for part in (source, place, text))
    return hashlib.sha256(parts).hexdigest()[:32]


def framed(part: bytes) -> bytes:
    """Return a part of what is hashed behind its length, so that no two different lists of parts are hashed alike."""
    return len(part).to_bytes(8, "little") + part


def rejected_row(source: str, path: str, place: str, bad: RejectedRecord) -> dict[str, Any]:
    """Return the row of `removed` of what could not be read, at a place in a source."""
    return {
        "id": document_id(source, f"{place}#{bad.place}", f"{bad.rule}: {bad.value}"),
        "source": source,
        "uri": f"{path}#{bad.place.rsplit(' ', 1)[-1]}" if bad.place else path,
        "stage": "ingest",
        "rule": bad.rule,
        "value": f"{bad.place}: {bad.value}" if bad.place else bad.value,
        "threshold": bad.threshold,
    }
