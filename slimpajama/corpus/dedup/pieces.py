"""One piece of a file for `slimpajama dedup`: read, sketched, its records put aside; and ids that are told apart."""

import contextlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import DedupConfig
from slimpajama.core.errors import InputError
from slimpajama.corpus.dedup.columns import key_file, large_strings, read_keys
from slimpajama.corpus.dedup.documents import DocumentFile
from slimpajama.corpus.dedup.kernel import sketch
from slimpajama.corpus.sources.others import joined
from slimpajama.corpus.sources.records import Chunk, ReadOptions, RejectedRecord

# Number of bad records that the summary names.
SHOWN = 20
WANT = ReadOptions(
    max_document_bytes=256_000_000, batch_bytes=16_000_000, batch_rows=1 << 20, all_columns=True, any_text=True
)
REFUSED = pa.schema([("file", pa.string()), ("place", pa.string()), ("reason", pa.string())])
# What every kept document has, its other columns behind.
OWN = pa.schema([("id", pa.string()), ("text", pa.large_string())])


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that could not be used."""

    file: str
    place: str
    """`line 7` or `row 7`, counted from 1; empty for the file as a whole."""
    reason: str


class Part(NamedTuple):
    """What one piece of a file left after the first pass, besides what documents are compared by."""

    file: str
    """Name of the file in ids."""
    bad: list[BadRecord]
    """The first of them."""
    n_bad: int
    refused: str
    """Arrow file of all of them, REFUSED, if there are any."""
    text_bytes: int
    numbers: npt.NDArray[np.int64]
    """Of each record in its file."""
    has_ids: bool
    schema: pa.Schema
    """Of `load`."""
    load: Callable[[], pa.Table]
    """Reads the records again: OWN, then their other columns, whatever these are called."""


def sketch_piece(piece: Chunk, path: Path, name: str, spool: Path, cfg: DedupConfig) -> tuple[Part, DocumentFile]:
    """Parse and sketch one piece, and put aside its band keys and, unless it can be read again, its records."""
    refused = str(spool.with_suffix(".refused"))
    table, numbers, has_ids, bad, n_bad = _parse(piece, path, name, refused)
    load: Callable[[], pa.Table] = partial(mapped, str(spool.with_suffix(".arrow")))
    if piece.again:
        load = partial(_parse_again, piece, path, name)
    else:
        with pa.OSFile(str(spool.with_suffix(".arrow")), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    text = large_strings(table.column(1))
    sketches = sketch(text, cfg)
    keys, n_rows = spool.with_suffix(".parquet"), len(text)
    if n_rows:
        keys.write_bytes(key_file(sketches.content, sketches.keys))
    # An array of its own: the table's would keep its text.
    ids = pa.array(table.column(0).to_pylist(), pa.string())
    file = DocumentFile(
        ids,
        sketches.n_chars,
        sketches.content,
        # These hold neither `piece`, which has the raw bytes of the input, nor `ids`, which are joined.
        lambda groups: read_keys(keys, groups) if n_rows else np.zeros((len(groups), 0), np.uint64),
        lambda rows: large_strings(load().column(1).take(pa.array(rows))),
    )
    return Part(name, bad, n_bad, refused, text.nbytes, numbers, has_ids, table.schema, load), file


def _parse(
    piece: Chunk, path: Path, name: str, refused: str = ""
) -> tuple[pa.Table, npt.NDArray[np.int64], bool, list[BadRecord], int]:
    """Return a piece's records, their numbers, whether one has an id, the first bad ones, and how many are bad.

    All bad ones go to `refused`, where it is given.
    """
    own, others, numbers, has_ids = [OWN.empty_table()], list[pa.Table](), [np.zeros(0, np.int64)], False
    bad, n_bad = list[BadRecord](), 0
    with contextlib.ExitStack() as stack:
        writer: pa.ipc.RecordBatchFileWriter | None = None
        for batch in piece.read():
            number = batch.table["number"]
            made = pc.binary_join_element_wise(name, number.cast(pa.string()), ":")
            own.append(pa.table([pc.coalesce(batch.table["id"], made), batch.table["text"]], schema=OWN))
            has_others = batch.others is not None and batch.others.num_columns
            others.append(pa.Table.from_batches([batch.others]) if has_others else batch.table.select([]))
            numbers.append(number.to_numpy())
            has_ids = has_ids or batch.table["id"].null_count < len(number)
            found = [_bad(item, name, path) for item in batch.rejected]
            bad, n_bad = [*bad, *found][:SHOWN], n_bad + len(found)
            if found and refused:
                writer = writer or stack.enter_context(pa.ipc.new_file(refused, REFUSED))
                writer.write_table(pa.Table.from_pylist([asdict(record) for record in found], REFUSED))
    table = pa.concat_tables(own)
    if any(rows.num_columns for rows in others):
        found_others = joined(others)
        for field, column in zip(found_others.schema, found_others.columns, strict=True):
            table = table.append_column(field, column)
    return table, np.concatenate(numbers), has_ids, bad, n_bad


def _bad(item: RejectedRecord, name: str, path: Path) -> BadRecord:
    if not item.place and item.rule == "unreadable":
        raise InputError(item.rule, where=str(path), expected=item.threshold, found=item.value)
    expected = "" if item.place or not item.threshold else f", expected {item.threshold}"
    return BadRecord(name, item.place, f"{item.rule}: {item.value}{expected}")


def _parse_again(piece: Chunk, path: Path, name: str) -> pa.Table:
    return _parse(piece, path, name)[0]


def mapped(path: str) -> pa.Table:
    """Return what an Arrow file holds, without reading it into memory."""
    return pa.ipc.open_file(pa.memory_map(path)).read_all()


def told_apart(ids: pa.Array, parts: list[Part]) -> pa.Array:
    """Return ids of which no two are equal: of those that are, each is named by its file and its number there."""
    while True:
        codes = pc.dictionary_encode(ids).indices.to_numpy()
        repeats = np.bincount(codes, minlength=1)[codes] > 1
        if not repeats.any():
            return ids
        made = [pc.binary_join_element_wise(part.file, pa.array(part.numbers).cast(pa.string()), ":") for part in parts]
        # A name that is made may be another document's own id, which is then replaced in its turn.
        ids = pc.if_else(pa.array(repeats), pa.chunked_array(made, pa.string()).combine_chunks(), ids)
