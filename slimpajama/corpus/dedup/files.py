"""`slimpajama dedup`: near-duplicate removal alone, over files, by the same decision as the nightly stage.

Two passes. The first reads and sketches. It spools the records, except of Parquet files, as Arrow without compression,
so that the second pass and the exact comparisons map them into memory instead of parsing again, and band keys in the
nightly step's form. The second pass writes. Output appears at the end, whole.

Memory: `dedup.memory_mb` and, besides what `decide` says, the documents' ids and up to two batches a thread.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.core.config import DedupConfig
from slimpajama.core.errors import InputError, printable, unwritable
from slimpajama.core.memory import configure_allocator, release_memory
from slimpajama.core.progress import track
from slimpajama.core.result import Result
from slimpajama.core.stopping import Pool
from slimpajama.corpus.dedup.columns import key_file, large_strings, read_keys
from slimpajama.corpus.dedup.decide import Outcome, decide
from slimpajama.corpus.dedup.documents import DocumentFile, Documents
from slimpajama.corpus.dedup.history import open_history
from slimpajama.corpus.dedup.kernel import sketch
from slimpajama.corpus.sources.files import chunks
from slimpajama.corpus.sources.formats import TABLES, format_of
from slimpajama.corpus.sources.records import Batch, Chunk, ReadOptions

WORK = ".dedup-work"
# In a row group.
ROWS = 10_000
# Number of bad records that the summary names.
SHOWN = 20
WANT = ReadOptions(
    max_document_bytes=256_000_000,
    id_field="id",
    batch_bytes=16_000_000,
    batch_rows=1 << 20,
    all_columns=True,
    any_text=True,
)
REMOVED = pa.schema([("id", pa.string()), ("duplicate_of", pa.string()), ("jaccard", pa.float64())])
NOTHING = pa.schema([("id", pa.string()), ("text", pa.large_string())]).empty_table()


@dataclass(frozen=True, slots=True)
class BadRecord:
    """A record that could not be used."""

    file: str
    place: str
    """`line 7` or `row 7`, counted from 1; empty for the file as a whole."""
    reason: str


@dataclass(frozen=True, slots=True)
class FilesReport(Result):
    """What `dedup_files` did."""

    documents: int
    kept: int
    exact_duplicates: int
    near_duplicates: int
    bad_records: int
    bad: tuple[BadRecord, ...]
    """The first of them."""
    text_bytes: int
    compared: int
    """Pairs that were compared exactly."""
    kept_files: str
    removed_files: str

    def text(self) -> str:
        """Return the summary for people."""
        lines = [
            f"{self.documents:,} documents, {self.text_bytes / 1e6:,.1f} MB of text: {self.kept:,} kept, "
            f"{self.exact_duplicates:,} exact and {self.near_duplicates:,} near-duplicates removed",
            f"kept     {self.kept_files}",
            f"removed  {self.removed_files}",
        ]
        if self.bad_records:
            lines.append(f"{self.bad_records:,} records could not be used:")
            lines += [printable(f"  {bad.file}, {bad.place}: {bad.reason}") for bad in self.bad]
            lines += [f"  and {self.bad_records - len(self.bad):,} more"] * (self.bad_records > len(self.bad))
        return "\n".join(lines)


class _Part(NamedTuple):
    """What one piece of a file left after the first pass, besides what documents are compared by."""

    bad: list[BadRecord]
    """The first of them."""
    n_bad: int
    text_bytes: int
    load: Callable[[], pa.Table]
    """Reads the records again, all columns."""


def dedup_files(
    inputs: Sequence[Path], out: Path, cfg: DedupConfig, workers: int = 0, against: str = ""
) -> FilesReport:
    """Remove exact and near-duplicates from files with a `text` and optionally an `id` column.

    Args:
        inputs: JSON lines or arrays, CSV, Parquet or Arrow files, plain or packed, in any mixture.
        out: Folder; `kept/*.parquet` and `removed/*.parquet` in it are replaced. Kept rows have `id` and `text`,
            from Parquet all their columns; removed ones `id`, `duplicate_of`, `jaccard`. A document without an id
            is named by its file and its number there, from 1.
        workers: Threads; 0 takes every core. The output does not depend on it.
        against: A workspace, or the `out` of an earlier call: documents that duplicate one of its are removed, too.

    Raises:
        InputError: A file is missing or of no known kind, `out` holds something else or cannot be written, or
            `against` holds nothing.
        StorageError: The system's folder for temporary files is full or cannot be written to.
    """
    configure_allocator()
    threads = workers or os.cpu_count() or 1
    for folder in ("kept", "removed"):
        _check_replaceable(out / folder)
    if against and Path(against).resolve() == out.resolve():
        raise InputError("would be replaced, and is compared with", where=str(out), hint="Name another --out.")
    history = open_history(against, cfg) if against else ()
    work = out / WORK
    shutil.rmtree(work, ignore_errors=True)
    try:
        for folder in ("spool", "kept", "removed"):
            (work / folder).mkdir(parents=True)
        parts, documents = _first_pass(inputs, work / "spool", cfg, threads)
        release_memory()
        outcome = decide(documents, history, cfg, threads)
        release_memory()
        _write(parts, documents.slices(), outcome, work, threads)
        for folder in ("kept", "removed"):
            shutil.rmtree(out / folder, ignore_errors=True)
            (work / folder).rename(out / folder)
    except OSError as error:
        # It is about writing: what cannot be read is counted as a bad record.
        raise unwritable(error, out, "--out") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _report(parts, outcome, out)


def _check_replaceable(folder: Path) -> None:
    foreign = [path.name for path in folder.glob("*") if path.suffix != ".parquet"]
    if folder.exists() and (foreign or not folder.is_dir()):
        raise InputError(
            "would be replaced, but holds other things", where=str(folder), found=", ".join(sorted(foreign)[:3])
        )


def _first_pass(inputs: Sequence[Path], spool: Path, cfg: DedupConfig, threads: int) -> tuple[list[_Part], Documents]:
    """Read, sketch and spool; this thread reads, the workers do the rest."""
    running: list[Future[tuple[_Part, DocumentFile]]] = []
    # By their paths where two of them have one name.
    by_name = len({path.name for path in inputs}) == len(inputs)
    with (
        track("read", total=sum(path.stat().st_size for path in inputs if path.is_file()), unit="B") as bar,
        Pool(threads, "dedup") as pool,
    ):
        for path in inputs:
            before, name = 0, path.name if by_name else str(path)
            for piece in _pieces(path):
                bar.advance(piece.position - before)
                before = piece.position
                running.append(pool.submit(_sketch_piece, piece, path, name, spool / f"{len(running):05d}", cfg))
                if len(running) > 2 * threads:
                    # Pieces in flight are bounded.
                    running[-2 * threads].result()
        found = [future.result() for future in running]
    return [part for part, _ in found], Documents.of((file for _, file in found), pa.string())


def _pieces(path: Path) -> Iterator[Chunk]:
    if not path.is_file():
        raise InputError("no such file", where=str(path))
    kind = format_of(path.name)
    if kind not in TABLES:
        raise InputError("unknown kind of file", where=str(path), expected=", ".join(sorted(TABLES)))
    return chunks(lambda: path.open("rb"), path.name, replace(WANT, format=kind))


def _sketch_piece(piece: Chunk, path: Path, name: str, spool: Path, cfg: DedupConfig) -> tuple[_Part, DocumentFile]:
    """Parse and sketch one piece, and put aside its band keys and, unless it can be read again, its records."""
    table, bad, n_bad = _parse(piece, path, name)
    load: Callable[[], pa.Table] = partial(_mapped, str(spool.with_suffix(".arrow")))
    if piece.again:
        load = partial(_parse_again, piece, path, name)
    else:
        with pa.OSFile(str(spool.with_suffix(".arrow")), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    text = large_strings(table["text"])
    sketches = sketch(text, cfg)
    keys, n_rows = spool.with_suffix(".parquet"), len(text)
    if n_rows:
        keys.write_bytes(key_file(sketches.content, sketches.keys))
    # An array of its own: the table's would keep its text.
    ids = pa.array(table["id"].to_pylist(), pa.string())
    file = DocumentFile(
        ids,
        sketches.n_chars,
        sketches.content,
        # These hold neither `piece`, which has the raw bytes of the input, nor `ids`, which are joined.
        lambda groups: read_keys(keys, groups) if n_rows else np.zeros((len(groups), 0), np.uint64),
        lambda rows: large_strings(load()["text"].take(pa.array(rows))),
    )
    return _Part(bad, n_bad, text.nbytes, load), file


def _parse(piece: Chunk, path: Path, name: str) -> tuple[pa.Table, list[BadRecord], int]:
    """Return a piece's records, the first bad ones, and how many are bad."""
    tables, bad, n_bad = [NOTHING], list[BadRecord](), 0
    for batch in piece.read():
        tables += [_named(batch, name)] if batch.table.num_rows else []
        for item in batch.rejected[: SHOWN - len(bad)]:
            if not item.place and item.rule in ("no-text", "unreadable"):
                raise InputError(item.rule, where=str(path), expected=item.threshold, found=item.value)
            bad.append(BadRecord(name, item.place, f"{item.rule}: {item.value}"))
        n_bad += len(batch.rejected)
    return pa.concat_tables(tables[1:] or tables), bad, n_bad


def _parse_again(piece: Chunk, path: Path, name: str) -> pa.Table:
    return _parse(piece, path, name)[0]


def _mapped(path: str) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(path)).read_all()


def _named(batch: Batch, name: str) -> pa.Table:
    """Return a batch with `id` made where it is missing, `text`, and its other columns."""
    made = pc.binary_join_element_wise(name, batch.table["number"].cast(pa.string()), ":")
    table = pa.table({"id": pc.coalesce(batch.table["id"], made), "text": batch.table["text"]})
    others = batch.others or pa.record_batch({})
    for field, column in zip(others.schema, others.columns, strict=True):
        table = table.append_column(field, column)
    return table


def _write(parts: list[_Part], slices: list[slice], outcome: Outcome, work: Path, threads: int) -> None:
    """Write the kept records of each part, and one file of the removed ones."""

    def write(number: int) -> None:
        kept = outcome.kept[slices[number]]
        if kept.any():
            table = parts[number].load().filter(pa.array(kept))
            _write_parquet(table, work / "kept" / f"part-{number:05d}.parquet")

    with track("write", total=len(parts), unit="parts") as bar, Pool(threads) as pool:
        for _ in pool.map(write, range(len(parts))):
            bar.advance()
    if not outcome.kept.any():
        _write_parquet(NOTHING, work / "kept" / "part-00000.parquet")
    with pq.ParquetWriter(work / "removed" / "part-00000.parquet", REMOVED, compression="zstd") as writer:
        for start in range(0, len(outcome.kept), ROWS):
            part = slice(start, start + ROWS)
            table = outcome.table(part).append_column("id", outcome.ids[part])
            writer.write_table(table.filter(pc.invert(table["kept"])).select(REMOVED.names))


def _write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", compression_level=1, row_group_size=ROWS)


def _report(parts: list[_Part], outcome: Outcome, out: Path) -> FilesReport:
    bad = [record for part in parts for record in part.bad]
    kept, exact = int(outcome.kept.sum()), int(outcome.exact.sum())
    return FilesReport(
        documents=len(outcome.kept),
        kept=kept,
        exact_duplicates=exact,
        near_duplicates=len(outcome.kept) - kept - exact,
        bad_records=sum(part.n_bad for part in parts),
        bad=tuple(bad[:SHOWN]),
        text_bytes=sum(part.text_bytes for part in parts),
        compared=outcome.compared,
        kept_files=str(out / "kept" / "*.parquet"),
        removed_files=str(out / "removed" / "*.parquet"),
    )
