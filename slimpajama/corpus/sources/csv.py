"""CSV: flawless rows by Arrow; from the first unusual one on by Python, so that a bad one costs one record.

What is not set is found out by the header: the first of `DELIMITERS` and `QUOTES` with which it has all fields that are
asked for, else RFC 4180's; if need be, with spaces around its cells. A first line `sep=;`, which Excel understands,
sets the delimiter, too. Where a quote is never closed, its row ends with its line.
"""

import csv
import io
import re
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import chain, product
from typing import BinaryIO, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.csv

from slimpajama.corpus.sources.decoding import AUTO, text_blocks, with_notes
from slimpajama.corpus.sources.elements import peeked
from slimpajama.corpus.sources.records import (
    BOM,
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
    parsed,
    seen,
)
from slimpajama.corpus.sources.streams import TooLong, UntilBroken, whole_lines

# `surrogateescape` turns bytes that are not UTF-8 into these characters.
_ESCAPED = re.compile("[\udc80-\udcff]")
DELIMITERS, QUOTES = ",\t;|", "\"'"
# What Python says of a quote that is not closed; lines behind it that must look like rows.
_UNCLOSED, ROWS = re.compile("unexpected end of data|field larger than"), 8
# Excel's first line.
_SEP = re.compile(rb"sep=([!-~\t])\r?\n", re.IGNORECASE)
_Lines = tuple[int, bytes | TooLong]


class Dialect(NamedTuple):
    """How rows are written."""

    delimiter: str = ","
    quote: str = '"'
    """Empty: nothing is quoted."""
    has_spaces: bool = False
    """Whether spaces stand behind delimiters, and around names."""

    def reader(self, lines: Iterable[str], strict: bool = True) -> Iterator[list[str]]:
        """Return Python's reader of such rows."""
        quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if self.quote else csv.QUOTE_NONE
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote or None,
            quoting=quoting,
            skipinitialspace=self.has_spaces,
            strict=strict,
        )

    def names(self, row: list[str]) -> list[str]:
        """Return the names of a header."""
        return [name.strip() for name in row] if self.has_spaces else row


def read_csv(file: BinaryIO, name: str, options: ReadOptions) -> Iterator[Chunk]:
    """Read CSV with a header; a record's number is its row below the header, from 1."""
    notes: list[Note] = []
    found = (parsed(batch, file.tell()) for batch in _batches(*_opened(file, name, options, notes), options))
    yield from with_notes(found, notes)


def _opened(file: BinaryIO, name: str, options: ReadOptions, notes: list[Note]) -> tuple[Iterator[_Lines], Dialect]:
    """Return whole rows, the header first, and how they are written."""
    stream = _with_feeds(text_blocks(file, name, options, notes))
    lines = whole_lines(stream, options.batch_bytes, options.max_document_bytes)
    number, start = next(lines, (1, b""))
    dialect = Dialect()
    if isinstance(start, bytes):
        # The mark belongs to the file, not to this chunk.
        start = start.removeprefix(BOM.encode()).lstrip(b"\r\n")
        said = _SEP.match(start)
        number, start = (number + 1, start[said.end() :]) if said else (number, start)
        dialect = _dialect(start, said[1].decode() if said else "", options)
    if start:
        lines = chain([(number, start)], lines)
    return _whole_rows(lines, options.max_document_bytes, dialect), dialect


def _with_feeds(stream: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the blocks of a stream; where its beginning ends lines by `\\r` alone, as old Macs do, by `\\n`."""
    head, stream = peeked(stream)
    is_old = b"\n" not in head and b"\r" in head.rstrip(b"\r")
    return (block.replace(b"\r", b"\n") for block in stream) if is_old else stream


def _dialect(start: bytes, said: str, options: ReadOptions) -> Dialect:
    """Return how rows are written: as is set, as a first line `said`, else as it fits the header."""
    text = start.decode("utf-8", "replace")
    delimiters = said or DELIMITERS if options.delimiter == AUTO else options.delimiter
    quotes = QUOTES if options.quote == AUTO else [options.quote]
    dialects = [Dialect(*some, has_spaces) for has_spaces in (False, True) for some in product(delimiters, quotes)]
    for dialect in dialects:
        header = next(dialect.reader(io.StringIO(text, newline=""), strict=False), [])
        if set(options.text_fields) <= set(dialect.names(header)):
            return dialect
    return dialects[0]


def _whole_rows(lines: Iterable[_Lines], limit: int, dialect: Dialect) -> Iterator[_Lines]:
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
        ends = _row_ends(held, dialect)
        cut = int(ends[-1]) + 1 if ends.size else len(held) if len(held) > limit else 0
        if cut:
            yield first, held[:cut]
            first, held = first + held.count(b"\n", 0, cut), held[cut:]
    if held:
        yield first, held if held.endswith(b"\n") else held + b"\n"
    whole.check()


def _row_ends(data: bytes, dialect: Dialect) -> npt.NDArray[np.int64]:
    """Return where rows end: at the line feeds outside quotes."""
    array = np.frombuffer(data, np.uint8)
    feeds, quotes = np.flatnonzero(array == ord("\n")), _quotes(array, dialect)
    ends: npt.NDArray[np.int64] = feeds[np.searchsorted(quotes, feeds) % 2 == 0]
    return ends


def _quotes(array: npt.NDArray[np.uint8], dialect: Dialect) -> npt.NDArray[np.int64]:
    return np.flatnonzero(array == ord(dialect.quote)) if dialect.quote else np.zeros(0, np.int64)


def _batches(lines: Iterator[_Lines], dialect: Dialect, options: ReadOptions) -> Iterator[Batch]:
    """Parse by Arrow until something is unusual, and from there on by Python."""
    header: list[str] = []
    number = 1
    for first, data in lines:
        names = header
        if not header and isinstance(data, bytes):
            text = io.StringIO(data.decode("utf-8", "replace"), newline="")
            names = dialect.names(next(dialect.reader(text, strict=False), []))
        batch = None if isinstance(data, TooLong) else _flawless(data, names, not header, number, dialect, options)
        if batch is None:
            yield from collect(_records(chain([(first, data)], lines), header, number, dialect, options), options)
            return
        header, number = names, number + batch.table.num_rows + len(batch.rejected)
        yield batch


def _flawless(
    data: bytes, names: list[str], has_header: bool, number: int, dialect: Dialect, options: ReadOptions
) -> Batch | None:
    """Return the batch of whole rows in which every quote stands where RFC 4180 wants it, else None."""
    array = np.frombuffer(b"\n" + data + b"\n", np.uint8)
    quotes, delimiter = _quotes(array, dialect), dialect.delimiter.encode()
    used = [*options.text_fields, *([options.id_field] if options.id_field in names else [])]
    others = options.others(names)
    read = list(dict.fromkeys([*used, *others]))
    if (
        options.html
        or dialect.has_spaces
        or len(data) > options.max_document_bytes
        or len(set(names)) < len(names)
        or not set(used) <= set(names)
        or data.startswith(BOM.encode())
        or data.count(b"\r") != data.count(b"\r\n")
        or quotes.size % 2
        or not np.isin(array[quotes[::2] - 1], bytearray(delimiter + b"\n" + dialect.quote.encode())).all()
        or not np.isin(array[quotes[1::2] + 1], bytearray(delimiter + b"\r\n" + dialect.quote.encode())).all()
    ):
        return None
    ends = _row_ends(data, dialect) + 1  # in `array`
    blank = (array[ends - 1] == ord("\n")) | ((array[ends - 1] == ord("\r")) & (array[ends - 2] == ord("\n")))
    try:
        table = pa.csv.read_csv(
            pa.BufferReader(data),
            pa.csv.ReadOptions(
                use_threads=False, block_size=len(data) + 1, column_names=names, skip_rows_after_names=int(has_header)
            ),
            pa.csv.ParseOptions(
                newlines_in_values=bool(dialect.quote), delimiter=dialect.delimiter, quote_char=dialect.quote or False
            ),
            pa.csv.ConvertOptions(include_columns=read, column_types=dict.fromkeys(read, pa.large_string())),
        )
    except pa.ArrowException:
        return None
    if table.num_rows != len(ends) - int(blank.sum()) - has_header:
        return None
    columns = {name: table[name].combine_chunks() for name in used}
    ids = columns[options.id_field].cast(pa.string()) if options.id_field in names else None
    batch = filter_columns(number, "row", [columns[name] for name in options.text_fields], ids, options)
    if not others:
        return batch
    return batch.beside(pa.record_batch({name: table[name].combine_chunks() for name in others}), number)


def _records(
    lines: Iterable[_Lines], header: list[str], number: int, dialect: Dialect, options: ReadOptions
) -> Iterator[Found]:
    # The limit holds for the whole process and counts characters; a text never has more characters than bytes.
    csv.field_size_limit(options.max_document_bytes)
    too_long: list[RejectedRecord] = []
    for row in _parsed(_decoded(lines, options.max_document_bytes, too_long), dialect, len(header)):
        yield from too_long
        too_long.clear()
        if not header and isinstance(row, list):
            header = dialect.names(row)
            missing = options.missing_column(header.__contains__, header)
            if missing:
                yield missing
                return
        elif row:
            if isinstance(row, list):
                yield _record(header, row, number, options)
            else:
                yield RejectedRecord(f"row {number}", "not-csv", seen(row), "RFC 4180")
            number += 1
    yield from too_long


def _decoded(lines: Iterable[_Lines], limit: int, too_long: list[RejectedRecord]) -> Iterator[str]:
    """Yield lines as text, in which a byte that is no UTF-8 is escaped; those above `limit` go to `too_long`."""
    for first, data in lines:
        rows = data.removesuffix(b"\n") if isinstance(data, bytes) else data
        for _, line in lines_of(first, rows, limit):
            if isinstance(line, RejectedRecord):
                too_long.append(line)
            else:
                yield line.decode("utf-8", "surrogateescape") + "\n"


class _Rereadable(Iterator[str]):
    """Lines, of which those of one row can be read again."""

    def __init__(self, lines: Iterator[str]) -> None:
        self._lines, self._again = lines, deque[str]()
        self.row: list[str] = []

    def __next__(self) -> str:
        """Return the next line."""
        self.row.append(self._again.popleft() if self._again else next(self._lines))
        return self.row[-1]

    def go_back(self) -> None:
        """Read again all lines of the row but its first."""
        self._again.extendleft(reversed(self.row[1:]))


def _parsed(lines: Iterator[str], dialect: Dialect, n_cells: int) -> Iterator[list[str] | csv.Error]:
    """Yield the rows of CSV and the errors between them, after which it goes on.

    A quote that is not closed within the limit takes all lines behind it; where they look like rows, they are read.

    Args:
        lines: Whole lines.
        dialect: How rows are written.
        n_cells: Cells of the header; 0 where it comes first.
    """
    source = _Rereadable(lines)
    rows = dialect.reader(source)
    while True:
        source.row.clear()
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            if _UNCLOSED.match(str(error)) and _are_rows(source.row[1 : 1 + ROWS], n_cells, dialect):
                source.go_back()
            yield error
        else:
            n_cells = n_cells or len(row)
            yield row


def _are_rows(lines: list[str], n_cells: int, dialect: Dialect) -> bool:
    """Return whether lines have as many cells as the header; where it has one, nothing tells them from text."""
    try:
        return bool(lines) and n_cells > 1 and all(len(cells) == n_cells for cells in dialect.reader(lines))
    except csv.Error:
        return False


def _record(header: list[str], cells: list[str], number: int, options: ReadOptions) -> Found:
    place, row = f"row {number}", dict(zip(header, cells, strict=False))
    notes: list[Note] = []
    values: list[object] = [row.get(name) for name in options.text_fields]
    for at, value in enumerate(values):
        if isinstance(value, str) and _ESCAPED.search(value):
            values[at] = decoded(value.encode("utf-8", "surrogateescape"), place, notes)
    bad = [value for value in values if isinstance(value, RejectedRecord)]
    if bad:
        return bad[0]
    if any(cells[len(header) :]):
        notes.append(Note("extra-cells", f"{len(cells)} cells", f"{len(header)}, as in the header"))
    found = options.record(number, place, values, row.get(options.id_field) if options.id_field else None, notes)
    if options.all_columns and isinstance(found, Record):
        return replace(found, others=_others(header, cells, options))
    return found


def _others(header: list[str], cells: list[str], options: ReadOptions) -> dict[str, str | None]:
    """Return the other cells; a second column of a name gets a number."""
    others: dict[str, str | None] = {}
    kept = set(options.others(header))
    for number, name in enumerate(header, 1):
        if name in kept:
            cell = _ESCAPED.sub("\ufffd", cells[number - 1]) if number <= len(cells) else None
            others[f"{name}_{number}" if name in others else name] = cell
    return others
