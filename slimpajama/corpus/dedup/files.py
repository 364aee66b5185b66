"""`slimpajama dedup`: near-duplicate removal alone, over files, by the same decision as the nightly stage.

Two passes. The first reads and sketches; texts of JSON lines are put aside uncompressed, so that the second pass
and the exact comparisons map them into memory instead of parsing again, and band keys are put aside as the nightly
stage does. What is written appears at the end, whole.

Memory: `dedup.memory_mb` and, besides what `decide` says, the documents' ids and up to two batches a thread.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.core.config import DedupConfig
from slimpajama.core.errors import InputError, printable, unwritable
from slimpajama.core.memory import configure_allocator, release_memory
from slimpajama.core.progress import track
from slimpajama.corpus.dedup.columns import key_file, large_strings, read_keys
from slimpajama.corpus.dedup.decide import Outcome, decide
from slimpajama.corpus.dedup.history import open_past
from slimpajama.corpus.dedup.history_join import Documents, Past
from slimpajama.corpus.dedup.kernel import sketch
from slimpajama.corpus.sources.files import TABLES, chunks, format_of
from slimpajama.corpus.sources.records import Batch, Chunk, ReadOptions

WORK = ".dedup-work"
ROWS = 10_000  # in a row group
# Bad records that the summary names.
SHOWN = 20
WANT = ReadOptions(
    max_document_bytes=256_000_000,
    id_field="id",
    batch_bytes=16_000_000,
    batch_rows=1 << 20,
    all_columns=True,
    any_text=True,
)
NOTHING = pa.schema([("id", pa.string()), ("text", pa.large_string())]).empty_table()


class BadRecord(NamedTuple):
    """A record that could not be used."""

    file: str
    place: str
    """`line 7` or `row 7`, counted from 1; empty for the file as a whole."""
    reason: str


@dataclass(frozen=True, slots=True)
class FilesReport:
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

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON types."""
        return asdict(self) | {"bad": [record._asdict() for record in self.bad]}

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


class _Batch(NamedTuple):
    """One batch of the first pass, without its text."""

    rows: int
    ids: pa.Array
    n_chars: npt.NDArray[np.uint32]
    content: npt.NDArray[np.uint8]
    bad: list[BadRecord]
    """The first of them."""
    n_bad: int
    text_bytes: int
    load: Callable[[], pa.Table]
    """Reads the batch again, all columns."""
    keys: Path


def dedup_files(
    inputs: Sequence[Path], out: Path, cfg: DedupConfig, workers: int = 0, against: str = ""
) -> FilesReport:
    """Remove exact and near-duplicates from files with a `text` and optionally an `id` column.

    Args:
        inputs: JSON lines, CSV, Parquet or Arrow files, plain or packed (.gz, .zst, .bz2), in any mixture.
        out: Folder; `kept/*.parquet` and `removed/*.parquet` in it are replaced. Kept rows have `id` and `text`,
            from Parquet all their columns; removed ones `id`, `duplicate_of`, `jaccard`. A document without an id
            is named by its file and its number there, from 1.
        cfg: Threshold, shingles and bands.
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
    past = open_past(against, cfg) if against else None
    work = out / WORK
    shutil.rmtree(work, ignore_errors=True)
    try:
        for folder in ("spool", "kept", "removed"):
            (work / folder).mkdir(parents=True)
        found = _first_pass(inputs, work / "spool", cfg, threads)
        release_memory()
        outcome = _decide(found, past, cfg, threads)
        release_memory()
        _write(found, outcome, work, threads)
        for folder in ("kept", "removed"):
            shutil.rmtree(out / folder, ignore_errors=True)
            (work / folder).rename(out / folder)
    except OSError as error:
        # Of reading there is none: what cannot be read is counted.
        raise unwritable(error, out, "--out") from error
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return _report(found, outcome, out)


def _check_replaceable(folder: Path) -> None:
    foreign = [path.name for path in folder.glob("*") if path.suffix != ".parquet"]
    if folder.exists() and (foreign or not folder.is_dir()):
        raise InputError(
            "would be replaced, but holds other things", where=str(folder), found=", ".join(sorted(foreign)[:3])
        )


def _names(inputs: Sequence[Path]) -> list[str]:
    """Return the files' names, or their paths where two files have one name."""
    names = [path.name for path in inputs]
    return names if len(set(names)) == len(names) else [str(path) for path in inputs]


def _first_pass(inputs: Sequence[Path], spool: Path, cfg: DedupConfig, threads: int) -> list[_Batch]:
    """Read, sketch and spool; this thread reads, the workers do the rest."""
    running: list[Future[_Batch]] = []
    with (
        track("read", total=sum(path.stat().st_size for path in inputs if path.is_file()), unit="B") as bar,
        ThreadPoolExecutor(threads, thread_name_prefix="dedup") as pool,
    ):
        for path, name in zip(inputs, _names(inputs), strict=True):
            before = 0
            for piece in _pieces(path):
                bar.advance(piece.position - before)
                before = piece.position
                running.append(pool.submit(_take, piece, path, name, spool / f"{len(running):05d}", cfg))
                if len(running) > 2 * threads:
                    # Pieces in flight are bounded.
                    running[-2 * threads].result()
        return [future.result() for future in running]


def _pieces(path: Path) -> Iterator[Chunk]:
    if not path.is_file():
        raise InputError("no such file", where=str(path))
    # .json is JSON lines, too.
    kind = format_of(path.name) or format_of(f"{path.name}l")
    if kind not in TABLES:
        raise InputError("unknown kind of file", where=str(path), expected=", ".join(sorted(TABLES)))
    return chunks(lambda: path.open("rb"), path.name, replace(WANT, format=kind))


def _take(piece: Chunk, path: Path, name: str, spool: Path, cfg: DedupConfig) -> _Batch:
    """Parse and sketch one piece."""

    def read() -> tuple[pa.Table, list[BadRecord], int]:
        tables, bad, n_bad = [NOTHING], list[BadRecord](), 0
        for batch in piece.read():
            tables += [_named(batch, name)] if batch.table.num_rows else []
            for item in batch.rejected[: SHOWN - len(bad)]:
                if not item.place and item.rule in ("no-text", "unreadable"):
                    raise InputError(item.rule, where=str(path), expected=item.threshold, found=item.value)
                bad.append(BadRecord(name, item.place, f"{item.rule}: {item.value}"))
            n_bad += len(batch.rejected)
        return pa.concat_tables(tables[1:] or tables), bad, n_bad

    table, bad, n_bad = read()

    text_file = str(spool.with_suffix(".arrow"))

    def again() -> pa.Table:
        return read()[0]

    # Not one function for both: that one would hold `piece`, and with it the raw bytes of the whole input.
    load = again if piece.again else partial(_mapped, text_file)

    if not piece.again:
        with pa.OSFile(text_file, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    text = large_strings(table["text"])
    sketches = sketch(text, cfg)
    keys = spool.with_suffix(".parquet")
    if len(text):
        keys.write_bytes(key_file(sketches.content, sketches.keys))
    # An array of its own: the table's would keep its text.
    ids = pa.array(table["id"].to_pylist(), pa.string())
    return _Batch(len(ids), ids, sketches.n_chars, sketches.content, bad, n_bad, text.nbytes, load, keys)


def _mapped(text_file: str) -> pa.Table:
    return pa.ipc.open_file(pa.memory_map(text_file)).read_all()


def _named(batch: Batch, name: str) -> pa.Table:
    """Return a batch with `id` made where it is missing, `text`, and its other columns."""
    made = pc.binary_join_element_wise(name, batch.table["number"].cast(pa.string()), ":")
    table = pa.table({"id": pc.coalesce(batch.table["id"], made), "text": batch.table["text"]})
    others = batch.others or pa.record_batch({})
    for number, field in enumerate(others.schema):
        table = table.append_column(field, others.column(number))
    return table


def _decide(found: list[_Batch], past: Past | None, cfg: DedupConfig, threads: int) -> Outcome:
    filled = [batch for batch in found if batch.rows]
    counts = [batch.rows for batch in filled]
    none = pa.array([], pa.string())
    documents = Documents(
        ids=pa.concat_arrays([none, *(batch.ids for batch in filled)]),
        priority=np.zeros(sum(counts), np.int32),
        n_chars=np.concatenate([np.zeros(0, np.uint32), *(batch.n_chars for batch in filled)]),
        content=np.concatenate([np.zeros((0, 16), np.uint8), *(batch.content for batch in filled)]),
        starts=np.cumsum([0, *counts])[:-1],
    )
    # What is in `documents` need not stand twice.
    for number, batch in enumerate(found):
        found[number] = batch._replace(ids=none, n_chars=documents.n_chars[:0], content=documents.content[:0])
    filled = [batch for batch in found if batch.rows]

    def keys(groups: Sequence[int]) -> Iterator[npt.NDArray[np.uint64]]:
        for batch in filled:
            with batch.keys.open("rb") as file:
                yield read_keys(file, groups)

    def load(shelf: int, taken: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        return large_strings(filled[shelf].load()["text"].take(pa.array(taken)))

    return decide(documents, keys, past, load, cfg, threads)


def _write(found: list[_Batch], outcome: Outcome, work: Path, threads: int) -> None:
    ends = np.cumsum([batch.rows for batch in found])

    def write(number: int) -> None:
        kept = outcome.kept[ends[number] - found[number].rows : ends[number]]
        if kept.any():
            table = found[number].load().filter(pa.array(kept))
            _write_parquet(table, work / "kept" / f"part-{number:05d}.parquet")

    with track("write", total=len(found), unit="parts") as bar, ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(write, range(len(found))):
            bar.advance()
    if not outcome.kept.any():
        _write_parquet(NOTHING, work / "kept" / "part-00000.parquet")
    schema = pa.schema([("id", pa.string()), ("duplicate_of", pa.string()), ("jaccard", pa.float64())])
    with pq.ParquetWriter(work / "removed" / "part-00000.parquet", schema, compression="zstd") as writer:
        for start in range(0, len(outcome.kept), ROWS):
            part = slice(start, start + ROWS)
            jaccard = pa.array(outcome.jaccard[part], from_pandas=True)
            columns = [outcome.ids[part], outcome.duplicate_of(part), jaccard]
            table = pa.table(columns, schema=schema).filter(pc.is_valid(columns[1]))
            writer.write_table(table)


def _write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", compression_level=1, row_group_size=ROWS)


def _report(found: list[_Batch], outcome: Outcome, out: Path) -> FilesReport:
    bad = [record for batch in found for record in batch.bad]
    kept, exact = int(outcome.kept.sum()), int(outcome.exact.sum())
    return FilesReport(
        documents=len(outcome.kept),
        kept=kept,
        exact_duplicates=exact,
        near_duplicates=len(outcome.kept) - kept - exact,
        bad_records=sum(batch.n_bad for batch in found),
        bad=tuple(bad[:SHOWN]),
        text_bytes=sum(batch.text_bytes for batch in found),
        compared=outcome.compared,
        kept_files=str(out / "kept" / "*.parquet"),
        removed_files=str(out / "removed" / "*.parquet"),
    )
