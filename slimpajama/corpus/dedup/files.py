"""`slimpajama dedup`: near-duplicate removal alone, over files, by the same decision as the nightly stage.

Two passes. The first reads and sketches. It spools the records, except of Parquet files, as Arrow without compression,
so that the second pass and the exact comparisons map them into memory instead of parsing again, and band keys in the
nightly step's form. The second pass writes, every file in one schema. Output appears at the end, whole.

Memory: `dedup.memory_mb` and, besides what `decide` says, the documents' ids, twice while they are told apart, their
numbers, and up to two batches a thread.
"""

import contextlib
import os
import shutil
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.core.config import DedupConfig
from slimpajama.core.errors import ConfigError, EmptyInputError, printable, unwritable
from slimpajama.core.memory import configure_allocator, release_memory
from slimpajama.core.progress import stage, track
from slimpajama.core.result import Result
from slimpajama.core.stopping import Pool
from slimpajama.corpus.dedup.decide import Outcome, decide
from slimpajama.corpus.dedup.documents import DocumentFile, Documents
from slimpajama.corpus.dedup.history import open_history
from slimpajama.corpus.dedup.pieces import OWN, REFUSED, SHOWN, WANT, BadRecord, Part, mapped, sketch_piece, told_apart
from slimpajama.corpus.sources.files import chunks
from slimpajama.corpus.sources.formats import TABLES, format_of
from slimpajama.corpus.sources.others import DoesNotFitError, as_text, common_schema, fitted
from slimpajama.corpus.sources.records import ReadOptions

WORK = ".dedup-work"
NAME, FOLDERS = "part", ("kept", "removed", "refused")
# Column of the ids that were replaced.
OWN_ID = "id_"
# In a row group.
ROWS = 10_000
REMOVED = pa.schema([("id", pa.string()), ("duplicate_of", pa.string()), ("jaccard", pa.float64())])


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
    refused_files: str
    """Every bad record; empty where there is none."""

    def text(self) -> str:
        """Return the summary for people."""
        lines = [
            f"{self.documents:,} documents, {self.text_bytes / 1e6:,.1f} MB of text: {self.kept:,} kept, "
            f"{self.exact_duplicates:,} exact and {self.near_duplicates:,} near-duplicates removed",
            f"kept     {self.kept_files}",
            f"removed  {self.removed_files}",
        ]
        if self.bad_records:
            lines.append(f"{self.bad_records:,} records could not be used, all in {self.refused_files}:")
            lines += [printable(f"  {bad.file}, {bad.place}: {bad.reason}") for bad in self.bad]
            lines += [f"  and {self.bad_records - len(self.bad):,} more"] * (self.bad_records > len(self.bad))
        return "\n".join(lines)


def dedup_files(
    inputs: Sequence[Path],
    out: Path,
    cfg: DedupConfig,
    workers: int = 0,
    against: str = "",
    *,
    text_fields: Sequence[str] = ("text",),
    id_field: str = "",
) -> FilesReport:
    """Remove exact and near-duplicates from files of records.

    Args:
        inputs: JSON lines or arrays, CSV, Parquet or Arrow files, plain or packed, in any mixture.
        out: Folder; `kept/*.parquet`, `removed/*.parquet` and `refused/*.parquet` in it are replaced. Kept rows have
            `id`, `text` and all other columns, in one schema (`sources/others.py`); removed ones `id`, `duplicate_of`,
            `jaccard`; refused ones, if there are any, `file`, `place`, `reason`. A document without an id of its own,
            or with one that another document has, too, is named by its file and its number there, from 1; the id that
            it had is then in the column `id_`. So is a column `id` or `text` that is not what was asked for.
        workers: Threads; 0 takes every core. The output does not depend on it.
        against: A workspace, or the `out` of an earlier call: documents that duplicate one of its are removed, too.
            Where an id of it is also one of the inputs, `duplicate_of` has `against` and a colon before it.
        text_fields: Fields that hold the text, as a source's `text_field`.
        id_field: Field that holds the id; by default `id`, which may be missing.

    Raises:
        ConfigError: A file is missing, of no known kind or named twice; `out` holds something else or is one of the
            inputs; `against` is `out` or holds nothing.
        EmptyInputError: No record has a text, or none the `id_field`.
        InputError: A file cannot be read at all, or `out` cannot be written to. With each of these, `out` is as it was.
        StorageError: The system's folder for temporary files is full or cannot be written to.
    """
    configure_allocator()
    threads = workers or os.cpu_count() or 1
    kinds = _check(inputs, [out / folder for folder in FOLDERS])
    if against and Path(against).resolve() == out.resolve():
        raise ConfigError("would be replaced, and is compared with", where=str(out), hint="Name another --out.")
    history = open_history(against, cfg) if against else ()
    want = replace(WANT, text_fields=tuple(text_fields), id_field=id_field or "id")
    work, is_new = out / WORK, not out.exists()
    shutil.rmtree(work, ignore_errors=True)
    try:
        for folder in ("spool", *FOLDERS):
            (work / folder).mkdir(parents=True)
        parts, documents = _first_pass(list(zip(inputs, kinds, strict=True)), work / "spool", want, cfg, threads)
        _check_read(parts, id_field, want)
        ids = told_apart(documents.ids, parts)
        renamed, documents = ids is not documents.ids, documents._replace(ids=ids)
        release_memory()
        with stage("compare", resumes=False):
            outcome = _with_names(decide(documents, history, cfg, threads), against)
        release_memory()
        _write(parts, documents.slices(), outcome, renamed, work, threads)
        _replace_folders(work, out)
    except OSError as error:
        # It is about writing: what cannot be read is counted as a bad record.
        raise unwritable(error, out, "--out") from error
    finally:
        _tidy(work, out, is_new)
    return _report(parts, outcome, out)


def _tidy(work: Path, out: Path, is_new: bool) -> None:
    shutil.rmtree(work, ignore_errors=True)
    if is_new:
        # Only if nothing is in it.
        with contextlib.suppress(OSError):
            out.rmdir()


def _replace_folders(work: Path, out: Path) -> None:
    for folder in FOLDERS:
        shutil.rmtree(out / folder, ignore_errors=True)
        if any((work / folder).iterdir()):
            (work / folder).rename(out / folder)


def _check(inputs: Sequence[Path], folders: Sequence[Path]) -> list[str]:
    """Return the kind of each input, once all are there and `folders` may be replaced."""
    for folder in folders:
        foreign = [path.name for path in folder.glob("*") if path.suffix != ".parquet"]
        if folder.exists() and (foreign or not folder.is_dir()):
            raise ConfigError(
                "would be replaced, but holds other things", where=str(folder), found=", ".join(sorted(foreign)[:3])
            )
    kinds, places = [], set()
    for path in inputs:
        if not path.is_file():
            raise ConfigError("no such file", where=str(path))
        kinds.append(format_of(path.name))
        if kinds[-1] not in TABLES:
            raise ConfigError("unknown kind of file", where=str(path), expected=", ".join(sorted(TABLES)))
        if path.resolve() in places:
            raise ConfigError("named twice: each of its documents would duplicate itself", where=str(path))
        if any(folder.resolve() in path.resolve().parents for folder in folders):
            raise ConfigError("is read, and would be replaced", where=str(path), hint="Name another --out.")
        places.add(path.resolve())
    return kinds


def _check_read(parts: list[Part], id_field: str, want: ReadOptions) -> None:
    """Raise EmptyInputError where no record can be used, or none has the id that was asked for."""
    if not any(len(part.numbers) for part in parts):
        bad = next((record for part in parts for record in part.bad), BadRecord("", "", "no record"))
        field = f"a field {' or '.join(want.text_fields)} that holds a text"
        raise EmptyInputError(
            "no record can be used",
            where=", ".join(filter(None, (bad.file, bad.place))),
            expected=field,
            found=bad.reason,
            hint="Name the field that holds the text: --text-field FIELD.",
        )
    if id_field and not any(part.has_ids for part in parts):
        raise EmptyInputError("no record has this field", where=f"--id-field {id_field}")


def _first_pass(
    inputs: list[tuple[Path, str]], spool: Path, want: ReadOptions, cfg: DedupConfig, threads: int
) -> tuple[list[Part], Documents]:
    """Read, sketch and spool; this thread reads, the workers do the rest."""
    running: list[Future[tuple[Part, DocumentFile]]] = []
    # By their paths where two of them have one name.
    by_name = len({path.name for path, _ in inputs}) == len(inputs)
    with (
        track("read", total=sum(path.stat().st_size for path, _ in inputs), unit="B") as bar,
        Pool(threads, "dedup") as pool,
    ):
        for path, kind in inputs:
            before, options = 0, replace(want, format=kind)
            # Bytes that are no UTF-8 are spelt out.
            name = os.fsencode(path.name if by_name else path).decode("utf-8", "backslashreplace")
            for piece in chunks(partial(_open, path), path.name, options):
                bar.advance(piece.position - before)
                before = piece.position
                running.append(pool.submit(sketch_piece, piece, path, name, spool / f"{len(running):05d}", cfg))
                if len(running) > 2 * threads:
                    # Pieces in flight are bounded.
                    running[-2 * threads].result()
        found = [future.result() for future in running]
    return [part for part, _ in found], Documents.of((file for _, file in found), pa.string())


def _with_names(outcome: Outcome, against: str) -> Outcome:
    """Return the outcome, in which no earlier document has the id of one of the inputs."""
    earlier = outcome.matches.ids
    if not len(earlier):
        return outcome
    shared = pc.is_in(earlier, value_set=outcome.ids)
    named = pc.if_else(shared, pc.binary_join_element_wise(against, earlier, ":"), earlier)
    return outcome._replace(matches=outcome.matches._replace(ids=named))


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _write(parts: list[Part], slices: list[slice], outcome: Outcome, renamed: bool, work: Path, threads: int) -> None:
    """Write the kept records of each part, one file of the removed ones and one of the refused ones."""
    others = common_schema(pa.schema(list(part.schema)[len(OWN) :]) for part in parts)
    # An id that another document has, too, stays in a column of its own.
    own = [*OWN, *([pa.field(OWN_ID, pa.string())] * renamed)]
    while True:
        try:
            _write_kept(parts, slices, outcome, (own, others), work / "kept", threads)
            break
        except DoesNotFitError as error:
            # It is rare, so the files are written once more.
            others = as_text(others, error)
    with pq.ParquetWriter(work / "removed" / f"{NAME}-00000.parquet", REMOVED, compression="zstd") as writer:
        for start in range(0, len(outcome.kept), ROWS):
            part = slice(start, start + ROWS)
            table = outcome.table(part).append_column("id", outcome.ids[part])
            writer.write_table(table.filter(pc.invert(table["kept"])).select(REMOVED.names))
    refused = [part.refused for part in parts if part.n_bad]
    if refused:
        with pq.ParquetWriter(work / "refused" / f"{NAME}-00000.parquet", REFUSED, compression="zstd") as writer:
            for path in refused:
                writer.write_table(mapped(path))


def _write_kept(
    parts: list[Part],
    slices: list[slice],
    outcome: Outcome,
    columns: tuple[list[pa.Field], pa.Schema],
    folder: Path,
    threads: int,
) -> None:
    """Write the kept records of each part in one schema, our columns and the others, or raise DoesNotFitError."""
    own, others = columns
    names = _free(others.names, [field.name for field in own])
    schema = pa.schema([*own, *(field.with_name(name) for field, name in zip(others, names, strict=True))])

    def write(number: int) -> None:
        kept, ids = pa.array(outcome.kept[slices[number]]), outcome.ids[slices[number]]
        if not pc.any(kept).as_py():
            return
        table = parts[number].load()
        found = [ids, table.column(1)]
        if len(own) > len(OWN):
            read = table.column(0).combine_chunks()
            found.append(pc.if_else(pc.equal(read, ids), pa.scalar(None, pa.string()), read))
        if len(others):
            found += fitted(table.select(range(len(OWN), table.num_columns)), others).columns
        _write_parquet(pa.table(found, schema=schema).filter(kept), folder / f"{NAME}-{number:05d}.parquet")

    with track("write", total=len(parts), unit="parts") as bar, Pool(threads) as pool:
        for _ in pool.map(write, range(len(parts))):
            bar.advance()
    if not outcome.kept.any():
        _write_parquet(schema.empty_table(), folder / f"{NAME}-00000.parquet")


def _free(names: list[str], taken: list[str]) -> list[str]:
    """Return names, with `_` behind those that are taken."""
    out: list[str] = []
    for name in names:
        free = name
        while free in (*taken, *out) or (free != name and free in names):
            free += "_"
        out.append(free)
    return out


def _write_parquet(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path, compression="zstd", compression_level=1, row_group_size=ROWS)


def _report(parts: list[Part], outcome: Outcome, out: Path) -> FilesReport:
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
        refused_files=str(out / "refused" / "*.parquet") if bad else "",
    )
