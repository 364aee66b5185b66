"""Records of a raw file: plain text, JSON lines, CSV, Parquet or HTML, each plain, `.gz` or `.zst`.

A record that cannot be used becomes a `Bad` with its place, the rule it broke and what was seen, and reading goes
on. Where the rest of a file is lost (a cut archive, a failing disk), one `Bad` says so after the good records.

A text or HTML file is one document; a JSON line, a CSV row and a Parquet row are one each.

| rule | what was seen |
|---|---|
| `empty-file` | a file without a byte, or without a record |
| `unknown-format` | a file name that says nothing of its format |
| `unreadable` | a file or the rest of it that the disk or network does not give, or that is no Parquet |
| `truncated`, `damaged` | a compressed file that ends early, or is not what it should be |
| `too-large` | a record above `max_document_mb` |
| `invalid-utf8` | bytes that are no UTF-8, or for HTML not of the declared encoding |
| `not-json`, `not-csv` | a line that cannot be parsed, or is nested too deeply |
| `too-deep` | a web page nested too deeply to be parsed in bounded time |
| `no-text` | a missing, empty or non-text field |
| `has-nul` | a NUL character: binary data |
| `lone-surrogate` | half of a UTF-16 pair in a JSON escape |
"""

from __future__ import annotations

import csv
import io
import json
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from slimpajama.config import SourceConfig
from slimpajama.errors import printable
from slimpajama.ingest.html import TreeTooLargeError, declared_encoding, visible_text
from slimpajama.streams import BrokenStreamError, TooLong, blocks, bounded, lines

__all__ = ["Bad", "Limits", "Record", "format_of", "read_records"]

_SUFFIXES = {
    **dict.fromkeys((".txt", ".text", ".md", ".rst"), "txt"),
    **dict.fromkeys((".jsonl", ".ndjson"), "jsonl"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    ".csv": "csv",
    ".parquet": "parquet",
}
_ESCAPED = re.compile("[\udc80-\udcff]{1,4}")  # what `surrogateescape` makes of bytes that are no UTF-8
_PARQUET_ROWS = 256  # a batch; times the longest record this is what a file can make us hold
_COPY_LIMIT = 1 << 32  # bytes of a compressed Parquet file once unpacked to disk, where it must lie to be read


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of one record."""

    max_document_bytes: int
    """UTF-8 bytes of a record as it stands in the file."""


@dataclass(frozen=True, slots=True)
class Record:
    """One document as it was read."""

    number: int
    """Line, row or, where the file is the document, 1."""
    text: str
    own_id: str = ""
    """The source's own id, on one line, where `id_field` is set and the record has one."""


@dataclass(frozen=True, slots=True)
class Bad:
    """What could not be read, and why."""

    place: str
    """`line 17`, `row 3`, or empty for the file as a whole."""
    rule: str
    value: str
    threshold: str = ""


def format_of(name: str, source: SourceConfig) -> str:
    """Return `txt`, `jsonl`, `csv`, `parquet` or `html`; empty where neither source nor name tells."""
    if source.format != "auto":
        return source.format
    plain = name.lower().removesuffix(".gz").removesuffix(".zst")
    dot = plain.rfind(".")
    return _SUFFIXES.get(plain[dot:], "") if dot >= 0 else ""


def read_records(file: BinaryIO, name: str, source: SourceConfig, limits: Limits) -> Iterator[Record | Bad]:
    """Yield every record of an open file, good and bad, in its order.

    Args:
        file: Opened for reading bytes.
        name: The file's name, by whose endings compression and, for `auto`, the format are known.
        source: Format, `text_field` and `id_field`.
        limits: Bounds of a record.
    """
    kind = format_of(name, source)
    if not kind:
        yield Bad("", "unknown-format", name.rsplit("/", 1)[-1][-80:], ", ".join(_SUFFIXES))
        return
    found = 0
    try:
        for item in _READERS[kind](file, name, source, limits):
            found += 1
            yield item
    except BrokenStreamError as error:
        yield Bad("", error.rule, _seen(error.value), "a file that is whole")
    else:
        if not found:
            yield Bad("", "empty-file", "no record", "at least one record")


def _seen(value: object) -> str:
    return printable(value, 200)


def _too_large(place: str, found: TooLong, limits: Limits) -> Bad:
    value = f"{found.n_bytes} bytes" if found.complete else f"more than {limits.max_document_bytes} bytes"
    return Bad(place, "too-large", value, f"at most {limits.max_document_bytes} bytes")


def _checked(number: int, place: str, text: object, own_id: object, limits: Limits) -> Record | Bad:
    """Return the record of a text, or why it is none."""
    if not isinstance(text, str):
        return Bad(place, "no-text", f"a {type(text).__name__}" if text is not None else "no such field", "a text")
    if not text or text.isspace():
        return Bad(place, "no-text", "an empty text", "a text")
    if "\0" in text:
        return Bad(place, "has-nul", f"NUL at character {text.index(chr(0)) + 1}", "no NUL")
    try:
        n_bytes = len(text.encode())
    except UnicodeEncodeError as error:
        return Bad(
            place, "lone-surrogate", f"U+{ord(text[error.start]):04X} at character {error.start + 1}", "valid Unicode"
        )
    if n_bytes > limits.max_document_bytes:
        return _too_large(place, TooLong(n_bytes), limits)
    return Record(number, text, printable(own_id, 200) if own_id not in (None, "") else "")


def _decoded(data: bytes, place: str, encoding: str = "utf-8") -> str | Bad:
    try:
        return data.decode(encoding).removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        seen = data[error.start : error.start + 4].hex(" ")
        return Bad(place, "invalid-utf8", f"bytes {seen} at byte {error.start + 1}", f"valid {encoding.upper()}")


def _read_txt(file: BinaryIO, name: str, source: SourceConfig, limits: Limits) -> Iterator[Record | Bad]:
    data = bounded(blocks(file, name), limits.max_document_bytes)
    if isinstance(data, TooLong):
        yield _too_large("", data, limits)
    elif data:
        text = _decoded(data, "")
        yield text if isinstance(text, Bad) else _checked(1, "", text, None, limits)


def _read_html(file: BinaryIO, name: str, source: SourceConfig, limits: Limits) -> Iterator[Record | Bad]:
    data = bounded(blocks(file, name), limits.max_document_bytes)
    if isinstance(data, TooLong):
        yield _too_large("", data, limits)
    elif data:
        try:
            page = _decoded(data, "", declared_encoding(data))
            yield page if isinstance(page, Bad) else _checked(1, "", visible_text(page), None, limits)
        except LookupError:
            yield Bad("", "invalid-utf8", f"encoding {declared_encoding(data)}", "an encoding that Python knows")
        except TreeTooLargeError as error:
            yield Bad("", "too-deep", str(error))


def _read_jsonl(file: BinaryIO, name: str, source: SourceConfig, limits: Limits) -> Iterator[Record | Bad]:
    for number, line in lines(blocks(file, name), limits.max_document_bytes):
        place = f"line {number}"
        if isinstance(line, TooLong):
            yield _too_large(place, line, limits)
        elif line.strip():
            yield _json_record(line, number, place, source, limits)


def _json_record(line: bytes, number: int, place: str, source: SourceConfig, limits: Limits) -> Record | Bad:
    text = _decoded(line, place)
    if isinstance(text, Bad):
        return text
    try:
        data = json.loads(text)
    except RecursionError:
        return Bad(place, "not-json", "nested too deeply", "one JSON object")
    except ValueError as error:
        return Bad(place, "not-json", _seen(error), "one JSON object")
    if not isinstance(data, dict):
        return Bad(place, "not-json", f"a {type(data).__name__}", "one JSON object")
    return _checked(
        number, place, data.get(source.text_field), data.get(source.id_field) if source.id_field else None, limits
    )


def _read_csv(file: BinaryIO, name: str, source: SourceConfig, limits: Limits) -> Iterator[Record | Bad]:
    """Read RFC 4180 CSV with a header; a record's number is its row below the header, from 1."""
    csv.field_size_limit(limits.max_document_bytes)  # one for the whole process; more characters than bytes never fit
    skipped: list[Bad] = []

    def decoded() -> Iterator[str]:
        for number, line in lines(blocks(file, name), limits.max_document_bytes):
            if isinstance(line, TooLong):
                skipped.append(_too_large(f"line {number}", line, limits))
            else:
                text = line.decode("utf-8", "surrogateescape")  # so that one bad byte costs one row
                yield (text.removeprefix("\ufeff") if number == 1 else text) + "\n"

    rows = csv.reader(decoded(), strict=True)
    header: list[str] | None = None
    number = 0
    for row in _rows(rows):
        yield from skipped
        skipped.clear()
        if header is None and isinstance(row, list):
            header = row
            if source.text_field not in header:
                yield Bad("", "no-text", f"columns {_seen(', '.join(header))}", f"a column {source.text_field}")
                return
        elif row:
            number += 1
            if isinstance(row, list):
                yield _csv_record(dict(zip(header or [], row, strict=False)), number, source, limits)
            else:
                yield Bad(f"row {number}", "not-csv", _seen(row), "RFC 4180")
    yield from skipped


def _rows(rows: Iterator[list[str]]) -> Iterator[list[str] | csv.Error]:
    """Yield the rows of a CSV reader and the errors between them, after which it goes on."""
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield error


def _csv_record(row: dict[str, str], number: int, source: SourceConfig, limits: Limits) -> Record | Bad:
    place, text = f"row {number}", row.get(source.text_field)
    escaped = _ESCAPED.search(text or "")
    if escaped:
        seen = bytes(ord(char) - 0xDC00 for char in escaped[0]).hex(" ")
        return Bad(place, "invalid-utf8", f"bytes {seen} at character {escaped.start() + 1}", "valid UTF-8")
    return _checked(number, place, text, row.get(source.id_field) if source.id_field else None, limits)


def _read_parquet(file: BinaryIO, name: str, source: SourceConfig, limits: Limits) -> Iterator[Record | Bad]:
    if name.lower().endswith((".gz", ".zst")):
        with tempfile.TemporaryFile() as plain:  # Parquet is read from its end, so it must lie somewhere
            for part in blocks(file, name):
                plain.write(part)
                if plain.tell() > _COPY_LIMIT:
                    yield Bad(
                        "", "too-large", f"more than {_COPY_LIMIT} bytes unpacked", f"at most {_COPY_LIMIT} bytes"
                    )
                    return
            yield from _parquet_records(plain, source, limits)
    else:
        yield from _parquet_records(file, source, limits)


def _parquet_records(file: BinaryIO, source: SourceConfig, limits: Limits) -> Iterator[Record | Bad]:
    if file.seek(0, io.SEEK_END) == 0:
        return
    number = 0
    try:
        table = pq.ParquetFile(file)
        if source.text_field not in table.schema_arrow.names:
            columns = ", ".join(table.schema_arrow.names)
            yield Bad("", "no-text", f"columns {_seen(columns)}", f"a column {source.text_field}")
            return
        has_id = bool(source.id_field) and source.id_field in table.schema_arrow.names
        id_field = source.id_field if has_id else source.text_field
        for batch in table.iter_batches(_PARQUET_ROWS, columns=sorted({source.text_field, id_field})):
            ids = _values(batch[id_field]) if has_id else [None] * batch.num_rows
            for value, own_id in zip(_values(batch[source.text_field]), ids, strict=True):
                number += 1
                place = f"row {number}"
                text = _decoded(value, place) if isinstance(value, bytes) else value
                shown = own_id.decode("utf-8", "replace") if isinstance(own_id, bytes) else own_id
                yield text if isinstance(text, Bad) else _checked(number, place, text, shown, limits)
    except (pa.ArrowException, OSError, LookupError, ValueError) as error:
        yield Bad(f"row {number + 1}", "unreadable", _seen(error), "Parquet")


def _values(column: pa.Array) -> list[Any]:
    """Return a text column as bytes, whose UTF-8 is checked value by value; any other column as it is."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if pa.types.is_string_view(kind):
        column = column.cast(pa.binary_view())
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind):
        column = column.cast(pa.large_binary())
    return list(column.to_pylist())


_READERS: dict[str, Callable[[BinaryIO, str, SourceConfig, Limits], Iterator[Record | Bad]]] = {
    "txt": _read_txt,
    "jsonl": _read_jsonl,
    "csv": _read_csv,
    "parquet": _read_parquet,
    "html": _read_html,
}
