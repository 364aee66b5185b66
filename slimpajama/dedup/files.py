"""`slimpajama dedup`: near-duplicate removal alone, over files, by the same decision as the nightly stage.

Two passes. The first reads and sketches; texts of JSON lines are put aside uncompressed, so that the second pass
and the exact comparisons map them into memory instead of parsing again. What is written appears at the end, whole.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.config import DedupConfig
from slimpajama.dedup.columns import large_strings
from slimpajama.dedup.decide import Documents, Outcome, decide
from slimpajama.dedup.kernel import Sketches, band_keys, sketch
from slimpajama.errors import InputError, printable
from slimpajama.progress import track
from slimpajama.readers.files import TABLES, format_of, pieces
from slimpajama.readers.records import Batch, Piece, Want

__all__ = ["FilesReport", "dedup_files"]

WORK = ".dedup-work"
SHOWN = 20  # bad records that the summary names
WANT = Want(
    max_document_bytes=256_000_000, id_field="id", batch_bytes=16_000_000, batch_rows=1 << 20,
    all_columns=True, any_text=True,
)  # fmt: skip
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

    ids: pa.Array
    sketches: Sketches
    keys: npt.NDArray[np.uint64]
    bad: list[BadRecord]
    """The first of them."""
    n_bad: int
    text_bytes: int
    load: Callable[[], pa.Table]
    """Reads the batch again, all columns."""


def dedup_files(inputs: Sequence[Path], out: Path, cfg: DedupConfig, workers: int = 0) -> FilesReport:
    """Remove exact and near-duplicates from files with a `text` and optionally an `id` column.

    Args:
        inputs: JSON lines, CSV, Parquet or Arrow files, plain or packed (.gz, .zst, .bz2), in any mixture.
        out: Folder; `kept/*.parquet` and `removed/*.parquet` in it are replaced. Kept rows have `id` and `text`,
            from Parquet all their columns; removed ones `id`, `duplicate_of`, `jaccard`. A document without an id
            is named by its file and its number there, from 1.
        cfg: Threshold, shingles and bands.
        workers: Threads; 0 takes every core. The output does not depend on it.

    Raises:
        InputError: A file is missing or of no known kind, or `out` holds something else.
    """
    threads = workers or os.cpu_count() or 1
    for folder in ("kept", "removed"):
        _check_replaceable(out / folder)
    work = out / WORK
    shutil.rmtree(work, ignore_errors=True)
    try:
        for folder in ("spool", "kept", "removed"):
            (work / folder).mkdir(parents=True)
        found = _first_pass(inputs, work / "spool", cfg, threads)
        outcome = _decide(found, cfg, threads)
        _write(found, outcome, work, threads)
        for folder in ("kept", "removed"):
            shutil.rmtree(out / folder, ignore_errors=True)
            (work / folder).rename(out / folder)
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
                running.append(pool.submit(_take, piece, path, name, spool / f"{len(running):05d}.arrow", cfg))
                if len(running) > 2 * threads:
                    running[-2 * threads].result()  # pieces in flight are bounded
        return [future.result() for future in running]


def _pieces(path: Path) -> Iterator[Piece]:
    if not path.is_file():
        raise InputError("no such file", where=str(path))
    kind = format_of(path.name) or format_of(f"{path.name}l")  # .json is JSON lines, too
    if kind not in TABLES:
        raise InputError("unknown kind of file", where=str(path), expected=", ".join(sorted(TABLES)))
    return pieces(lambda: path.open("rb"), path.name, replace(WANT, format=kind))


def _take(piece: Piece, path: Path, name: str, spool: Path, cfg: DedupConfig) -> _Batch:
    """Parse and sketch one piece."""

    def read() -> tuple[pa.Table, list[BadRecord], int]:
        tables, bad, n_bad = [NOTHING], list[BadRecord](), 0
        for batch in piece.read():
            tables += [_named(batch, name)] if batch.table.num_rows else []
            for item in batch.bad[: SHOWN - len(bad)]:
                if not item.place and item.rule in ("no-text", "unreadable"):
                    raise InputError(item.rule, where=str(path), expected=item.threshold, found=item.value)
                bad.append(BadRecord(name, item.place, f"{item.rule}: {item.value}"))
            n_bad += len(batch.bad)
        return pa.concat_tables(tables[1:] or tables), bad, n_bad

    table, bad, n_bad = read()

    def load() -> pa.Table:
        return read()[0] if piece.again else pa.ipc.open_file(pa.memory_map(str(spool))).read_all()

    if not piece.again:
        with pa.OSFile(str(spool), "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
    text = large_strings(table["text"])
    sketches = sketch(text, cfg)
    keys = band_keys(sketches.signatures, cfg.bands, cfg.rows)
    ids = pa.array(table["id"].to_pylist(), pa.string())
    slim = sketches._replace(signatures=sketches.signatures[:0])  # the keys say what is needed from here on
    return _Batch(ids, slim, keys, bad, n_bad, text.nbytes, load)


def _named(batch: Batch, name: str) -> pa.Table:
    """Return a batch with `id` made where it is missing, `text`, and its other columns."""
    made = pc.binary_join_element_wise(name, batch.table["number"].cast(pa.string()), ":")
    table = pa.table({"id": pc.coalesce(batch.table["id"], made), "text": batch.table["text"]})
    others = batch.others or pa.record_batch({})
    for number, field in enumerate(others.schema):
        table = table.append_column(field, others.column(number))
    return table


def _decide(found: list[_Batch], cfg: DedupConfig, threads: int) -> Outcome:
    counts = [len(batch.ids) for batch in found]
    rows = np.concatenate([np.zeros(0, np.int64), *(np.arange(count) for count in counts)])
    documents = Documents(
        ids=pa.concat_arrays([pa.array([], pa.string()), *(batch.ids for batch in found)]),
        priority=np.zeros(len(rows), np.int64),
        n_chars=np.concatenate([np.zeros(0, np.int64), *(batch.sketches.n_chars for batch in found)]),
        content=np.concatenate([np.zeros((0, 16), np.uint8), *(batch.sketches.content for batch in found)]),
        keys=np.concatenate([np.zeros((0, cfg.bands), np.uint64), *(batch.keys for batch in found)]),
        places=np.column_stack([np.repeat(np.arange(len(counts)), counts), rows]),
    )

    def load(shelf: int, taken: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        return large_strings(found[shelf].load()["text"].take(pa.array(taken)))

    return decide(documents, [], load, cfg, threads)


def _write(found: list[_Batch], outcome: Outcome, work: Path, threads: int) -> None:
    ends = np.cumsum([len(batch.ids) for batch in found])

    def write(number: int) -> None:
        kept = outcome.kept[ends[number] - len(found[number].ids) : ends[number]]
        if kept.any():
            table = found[number].load().filter(pa.array(kept))
            _write_parquet(table, work / "kept" / f"part-{number:05d}.parquet")

    with track("write", total=len(found), unit="parts") as bar, ThreadPoolExecutor(threads) as pool:
        for _ in pool.map(write, range(len(found))):
            bar.advance()
    if not outcome.kept.any():
        _write_parquet(NOTHING, work / "kept" / "part-00000.parquet")
    removed = pa.array(~outcome.kept)
    ids = pa.concat_arrays([pa.array([], pa.string()), *(batch.ids for batch in found)])
    columns = {"id": ids, "duplicate_of": outcome.duplicate_of, "jaccard": pa.array(outcome.jaccard)}
    _write_parquet(pa.table(columns).filter(removed), work / "removed" / "part-00000.parquet")


def _write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", compression_level=1, row_group_size=10_000)


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
