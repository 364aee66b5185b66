"""CSV: flawless rows by Arrow; from the first unusual one on by Python, so that a bad one costs one record."""

import csv
import io
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import BinaryIO

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from slimpajama.corpus.sources.records import (
    BOM,
    Batch,
    Chunk,
    Found,
    ReadOptions,
    RejectedRecord,
    collect,
    filter_columns,
    joined,
    lines_of,
    parsed,
    seen,
)
from slimpajama.corpus.sources.streams import TooLong, UntilBroken, blocks, whole_lines

# `surrogateescape` turns bytes that are not UTF-8 into these characters.
_ESCAPED = re.compile("[\udc80-\udcff]{1,4}")
_Lines = tuple[int, bytes | TooLong]


def read_csv(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Chunk]:
    """Read RFC 4180 CSV with a header; a record's number is its row below the header, from 1."""
    lines = whole_lines(blocks(file, name), options.batch_bytes, options.max_document_bytes)
    for batch in _batches(_whole_rows(lines, options.max_document_bytes), options):
        yield parsed(batch, file.tell())


def _whole_rows(lines: Iterator[_Lines], limit: int) -> Iterator[_Lines]:
    """Move the cuts between chunks to where rows end; what is no row within `limit` bytes is cut anywhere."""
    first, held = 1, b""
    whole = UntilBroken(lines)
    for number, data in whole:
        if isinstance(data, TooLong):
            if held:
                yield first, held
            yield number, data
            held = b""
            continue
        first, held = first if held else number, held + data
        ends = _row_ends(held)
        cut = int(ends[-1]) + 1 if ends.size else len(held) if len(held) > limit else 0
        if cut:
            yield first, held[:cut]
            first, held = first + held.count(b"\n", 0, cut), held[cut:]
    if held:
        yield first, held if held.endswith(b"\n") else held + b"\n"
    whole.check()


def _row_ends(data: bytes) -> npt.NDArray[np.int64]:
    """Return where rows end: at the line feeds outside quotes."""
    array = np.frombuffer(data, np.uint8)
    feeds, quotes = np.flatnonzero(array == ord("\n")), np.flatnonzero(array == ord('"'))
    ends: npt.NDArray[np.int64] = feeds[np.searchsorted(quotes, feeds) % 2 == 0]
    return ends


def _batches(lines: Iterator[_Lines], options: ReadOptions) -> Iterator[Batch]:
    """Parse by Arrow until something is unusual, and from there on by Python."""
    header: list[str] = []
    number = 1
    for first, data in lines:
        names = header
        if not header and isinstance(data, bytes):
            # The mark belongs to the file, not to this chunk.
            data = data.removeprefix(BOM.encode())  # noqa: PLW2901
            names = next(csv.reader(io.StringIO(data.decode("utf-8", "replace"), newline="")), [])
        batch = None if isinstance(data, TooLong) else _flawless(data, names, not header, number, options)
        if batch is None:
            yield from collect(_records(chain([(first, data)], lines), header, number, options), options)
            return
        header, number = names, number + batch.table.num_rows + len(batch.rejected)
        yield batch


def _flawless(data: bytes, names: list[str], has_header: bool, number: int, options: ReadOptions) -> Batch | None:
    """Return the batch of whole rows in which every quote stands where RFC 4180 wants it, else None."""
    array = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    quotes = np.flatnonzero(array == ord('"'))
    used = [*options.text_fields, *([options.id_field] if options.id_field in names else [])]
    if (
        options.html
        or len(data) > options.max_document_bytes
        or len(set(names)) < len(names)
        or not set(used) <= set(names)
        or data.startswith(BOM.encode())
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
            pa.csv.ConvertOptions(include_columns=used, column_types=dict.fromkeys(used, pa.large_string())),
        )
    except pa.ArrowException:
        return None
    if table.num_rows != len(ends) - int(blank.sum()) - has_header:
        return None
    columns = {name: table[name].combine_chunks() for name in used}
    ids = columns[options.id_field].cast(pa.string()) if options.id_field in names else None
    return filter_columns(number, "row", [columns[name] for name in options.text_fields], ids, options)


def _records(lines: Iterable[_Lines], header: list[str], number: int, options: ReadOptions) -> Iterator[Found]:
    # The limit holds for the whole process and counts characters; a text never has more characters than bytes.
    csv.field_size_limit(options.max_document_bytes)
    too_long: list[RejectedRecord] = []
    rows = csv.reader(_decoded(lines, options.max_document_bytes, too_long), strict=True)
    for row in _parsed(rows):
        yield from too_long
        too_long.clear()
        if not header and isinstance(row, list):
            header = row
            missing = options.missing_column(header.__contains__, header)
            if missing:
                yield missing
                return
        elif row:
            if isinstance(row, list):
                yield _record(dict(zip(header, row, strict=False)), number, options)
            else:
                yield RejectedRecord(f"row {number}", "not-csv", seen(row), "RFC 4180")
            number += 1
    yield from too_long


def _decoded(lines: Iterable[_Lines], limit: int, too_long: list[RejectedRecord]) -> Iterator[str]:
    """Yield lines as text, in which a byte that is no UTF-8 is escaped; those above `limit` go to `too_long`."""
    for first, data in lines:
        rows = data.removesuffix(b"\n") if isinstance(data, bytes) else data
        for number, line in lines_of(first, rows, limit):
            if isinstance(line, RejectedRecord):
                too_long.append(line)
            else:
                text = line.decode("utf-8", "surrogateescape")
                yield (text.removeprefix(BOM) if number == 1 else text) + "\n"


def _parsed(rows: Iterator[list[str]]) -> Iterator[list[str] | csv.Error]:
    """Yield the rows of a CSV reader and the errors between them, after which it goes on."""
    while True:
        try:
            yield next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield error


def _record(row: dict[str, str], number: int, options: ReadOptions) -> Found:
    place, values = f"row {number}", [row.get(name) for name in options.text_fields]
    text = joined(values)
    escaped = _ESCAPED.search(text) if isinstance(text, str) else None
    if escaped:
        shown = bytes(ord(char) - 0xDC00 for char in escaped[0]).hex(" ")
        return RejectedRecord(place, "invalid-utf8", f"bytes {shown} at character {escaped.start() + 1}", "valid UTF-8")
    return options.record(number, place, values, row.get(options.id_field) if options.id_field else None)
