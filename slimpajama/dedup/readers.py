"""Files that `slimpajama dedup` takes: JSON lines (plain, .gz, .zst) and Parquet, cut into batches of bounded size.

Whoever reads a file's bytes hands out batches in order; parsing one is left to a worker. A record that cannot be
used becomes a `BadRecord` with its place, whatever is wrong with it, and the rest goes on.
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json
import pyarrow.parquet as pq

from slimpajama.errors import InputError
from slimpajama.streams import BrokenStreamError, blocks

__all__ = ["BadRecord", "Lines", "RowGroup", "batches", "parse_lines", "read_rows"]

BATCH_BYTES = 16_000_000
MAX_LINE_BYTES = 256_000_000  # what is held of one line before the rest of it is skipped
NEWLINE = b"\n"


class BadRecord(NamedTuple):
    """A record that could not be used."""

    file: str
    place: str
    """`line 7` or `row 7`, counted from 1."""
    reason: str


class Lines(NamedTuple):
    """Whole lines of a JSON lines file."""

    file: str
    first: int
    """Number of the first line, from 1."""
    data: bytes
    bad: list[BadRecord]
    """What went wrong while these were read."""
    position: int
    """Bytes of the file on disk that are read by now."""


class RowGroup(NamedTuple):
    """One row group of a Parquet file."""

    file: str
    path: Path
    group: int
    first: int
    """Number of the first row, from 1."""
    position: int


def batches(path: Path, name: str) -> Iterator[Lines | RowGroup]:
    """Yield a file's batches in order; `name` stands for the file in ids and messages.

    Raises:
        InputError: The file is missing, of no known kind, no Parquet, or a Parquet file without text.
    """
    if not path.is_file():
        raise InputError("no such file", where=str(path))
    kind = path.name.removesuffix(".gz").removesuffix(".zst").rsplit(".", 1)[-1]
    if kind in ("jsonl", "ndjson", "json"):
        yield from _line_batches(path, name)
    elif kind == "parquet":
        yield from _row_groups(path, name)
    else:
        raise InputError("unknown kind of file", where=str(path), expected=".jsonl, .jsonl.gz, .jsonl.zst or .parquet")


def _row_groups(path: Path, name: str) -> Iterator[RowGroup]:
    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise InputError(f"not readable as Parquet: {error}", where=str(path)) from None
    columns = file.schema_arrow.names
    if "text" not in columns:
        raise InputError("no column `text`", where=str(path), found=", ".join(columns) or "no columns")
    first, size, groups = 1, path.stat().st_size, file.num_row_groups
    for group in range(groups):
        yield RowGroup(name, path, group, first, size * (group + 1) // groups)
        first += file.metadata.row_group(group).num_rows


def read_rows(batch: RowGroup) -> tuple[pa.Table, list[BadRecord]]:
    """Return a row group with `id` as text, made where it is missing; rows without text are left out."""
    table = pq.ParquetFile(batch.path).read_row_group(batch.group)
    numbers = range(batch.first, batch.first + table.num_rows)
    made = pa.array([f"{batch.file}:{number}" for number in numbers], pa.string())
    try:
        text = table["text"].cast(pa.large_string())
        ids = pc.coalesce(table["id"].cast(pa.string()), made) if "id" in table.column_names else made
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise InputError(f"`text` and `id` must be text: {error}", where=str(batch.path)) from None
    others = table.drop_columns([name for name in ("id", "text") if name in table.column_names])
    table = others.add_column(0, "text", text).add_column(0, "id", ids)  # so that files of all kinds begin alike
    there = pc.is_valid(text)
    missing = pc.indices_nonzero(pc.invert(there)).to_pylist()
    return table.filter(there), [BadRecord(batch.file, f"row {numbers[row]}", "no text") for row in missing]


def _line_batches(path: Path, name: str) -> Iterator[Lines]:
    """Cut a stream behind the last line that fits; never holds much more than a batch and one line."""
    number, held, wanted, skipping, ended = 1, bytearray(), BATCH_BYTES, False, False
    with path.open("rb") as file:
        pieces = blocks(file, path.name)
        while not ended:
            bad: list[BadRecord] = []
            try:
                for piece in pieces:
                    if skipping:
                        _, newline, piece = piece.partition(b"\n")  # noqa: PLW2901 -- what is left of it
                        number, skipping = number + len(newline), not newline
                    held += piece
                    if len(held) >= wanted:
                        break
                else:
                    ended = True
            except BrokenStreamError as error:
                bad.append(BadRecord(name, f"line {number + held.count(NEWLINE)}", f"the file breaks off: {error}"))
                ended = True
            cut = len(held) if ended else held.rfind(NEWLINE) + 1
            data = bytes(held[:cut])
            del held[:cut]
            if len(held) > MAX_LINE_BYTES:
                bad.append(BadRecord(name, f"line {number + data.count(NEWLINE)}", f"over {MAX_LINE_BYTES} bytes"))
                skipping = True
                held.clear()
            if data or bad:
                yield Lines(name, number, data, bad, file.tell())
            number += data.count(NEWLINE)
            wanted = len(held) + BATCH_BYTES


def parse_lines(batch: Lines) -> tuple[pa.Table, list[BadRecord]]:
    """Return the lines' `id` and `text`; a bad line is left out and reported."""
    for id_type in (pa.string(), pa.int64()):
        table = _parse_fast(batch, id_type)
        if table is not None:
            return table, batch.bad
    return _parse_slowly(batch)


def _parse_fast(batch: Lines, id_type: pa.DataType) -> pa.Table | None:
    """Parse flawless lines by Arrow, 5 times as fast; None if anything is unusual."""
    if not batch.data:
        return None
    schema = pa.schema([("text", pa.large_string()), ("id", id_type)])
    parsing = pa.json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    reading = pa.json.ReadOptions(use_threads=False, block_size=len(batch.data) + 1)
    try:
        table = pa.json.read_json(io.BytesIO(batch.data), reading, parsing)
        table.validate(full=True)  # it takes bytes that are no UTF-8
    except pa.ArrowInvalid:
        return None
    lines = batch.data.count(b"\n") + (not batch.data.endswith(b"\n"))
    if table.num_rows != lines or table["text"].null_count:
        return None
    made = pa.array([f"{batch.file}:{batch.first + row}" for row in range(lines)], pa.string())
    return pa.table({"id": pc.coalesce(table["id"].cast(pa.string()), made), "text": table["text"]})


def _parse_slowly(batch: Lines) -> tuple[pa.Table, list[BadRecord]]:
    """Parse line by line, so that one bad line is one bad record."""
    ids, texts, bad = [], [], list(batch.bad)
    for number, line in enumerate(batch.data.split(b"\n"), batch.first):
        if not line.strip():
            continue
        record, reason = _parse_line(line)
        if reason:
            bad.append(BadRecord(batch.file, f"line {number}", reason))
            continue
        own = record.get("id")
        ids.append(str(own) if isinstance(own, (str, int)) else f"{batch.file}:{number}")
        texts.append(record["text"])
    return pa.table({"id": pa.array(ids, pa.string()), "text": pa.array(texts, pa.large_string())}), bad


def _parse_line(line: bytes) -> tuple[dict[str, Any], str]:
    """Return one record, or why it is none."""
    record: Any = None
    try:
        record = json.loads(line.decode())
    except UnicodeDecodeError as error:
        return {}, f"not UTF-8 at byte {error.start + 1}"
    except (ValueError, RecursionError) as error:
        return {}, f"not JSON: {error}"
    if not isinstance(record, dict):
        return {}, "not a JSON object"
    if not isinstance(record.get("text"), str):
        return {}, "no text"
    with contextlib.suppress(UnicodeEncodeError):
        record["text"].encode()
        str(record.get("id")).encode()
        return record, ""
    return {}, "half of a surrogate pair, which is no character"
