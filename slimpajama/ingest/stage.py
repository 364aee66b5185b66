"""The first stage of a night: new and changed raw files in, RAW parts and `removed/ingest-*.parquet` out.

A unit is a group of small files or one large file. It hands out parts of at most `part_mb` of text as it reads,
each committed by itself, so neither memory nor the loss at a kill grows with a file's size.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from slimpajama.config import Config, SourceConfig
from slimpajama.errors import InputError
from slimpajama.ingest.discover import InputFile, Plan, current_version, fixed_folder, open_input, plan
from slimpajama.ingest.readers import Bad, Limits, Record, read_records
from slimpajama.manifest import Manifest, Part, Stage, add_counts
from slimpajama.night import load_night, published_nights, work_folder
from slimpajama.progress import track
from slimpajama.schema import RAW, removed_table
from slimpajama.storage import Store

__all__ = ["document_id", "ingest", "known_inputs"]

Row = dict[str, Any]


def known_inputs(store: Store) -> list[Row]:
    """Return the raw files that published nights have read, as `plan` takes them."""
    nights = (load_night(store, night) for night in published_nights(store))
    return [entry for night in nights for entry in night.about["stages"]["ingest"]["inputs"]]


def document_id(source: str, place: str, text: str) -> str:
    """Return a document's id: 32 hex digits of SHA-256 over its source's name, its place in there and its text.

    Each part is preceded by its length, so no two different triples are hashed alike.
    """
    digest = hashlib.sha256()
    for part in (source.encode(), place.encode(), text.encode()):
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.hexdigest()[:32]


def ingest(store: Store, cfg: Config, night: str) -> Manifest:
    """Read what is new in the sources since the last published night.

    Args:
        store: The workspace.
        cfg: `ingest` and `run` are used.
        night: The night to write to.

    Returns:
        The stage's manifest; `about["inputs"]` lists the files that were read. Files: parts of schema RAW in the
        work folder and `removed/ingest-*.parquet`. Counts: `files`, `documents` and `bytes` (of text) by source,
        `removed` by source and rule.

    Raises:
        InputError: A source cannot be listed, or a file changed while it was read.
    """
    todo = plan(cfg, known_inputs(store))
    about = {
        "version": 1,
        "settings": cfg.ingest,
        "inputs": [file.entry() for file in todo.files],
        "problems": [[source, path, bad.rule] for source, path, bad in todo.problems],
    }
    stage = Stage(store, "ingest", work=work_folder(night, "ingest"), about=about)
    if stage.finished:
        return stage.result
    stage.commit("plan", _plan_part(todo, night))
    units = [(f"unit-{number:05d}", (f"part-{number:05d}", unit)) for number, unit in enumerate(todo.units)]

    with track("ingest", total=sum(file.bytes for file in todo.files), unit="B") as bar:

        def make(unit: tuple[str, tuple[InputFile, ...]]) -> Part:
            prefix, files = unit
            for number, part in enumerate(_parts(files, cfg)):
                name = f"{prefix}-{number:05d}"
                if not stage.has(name):
                    stage.commit(name, _stored(part, stage.work, night, name))
            return Part()

        stage.map(units, make, cfg.run.threads(), lambda unit: bar.advance(sum(file.bytes for file in unit[1])))
    return stage.finish()


def _plan_part(todo: Plan, night: str) -> Part:
    rows = [_removed(source, path, "", bad) | {"night": night} for source, path, bad in todo.problems]
    removed = add_counts({row["source"]: {row["rule"]: 1}} for row in rows)
    return Part(
        {f"nights/{night}/removed/ingest-plan.parquet": removed_table(rows)},
        {"files": len(todo.files), "removed": removed},
    )


def _parts(files: tuple[InputFile, ...], cfg: Config) -> Iterator[tuple[list[Row], list[Row]]]:
    """Yield RAW rows and REMOVED rows of some files, cut whenever the text reaches `part_mb`."""
    sources = {source.name: source for source in cfg.ingest.sources}
    part_bytes = cfg.ingest.part_mb * 1e6
    good: list[Row] = []
    bad: list[Row] = []
    size = 0
    for file in files:
        for row in _rows(file, sources[file.source], cfg):
            (good if "text" in row else bad).append(row)
            size += len(row.get("text", "")) + 200  # so that a flood of bad records is cut, too
            if size >= part_bytes:
                yield good, bad
                good, bad, size = [], [], 0
        _check_unchanged(file)
    if good or bad:
        yield good, bad


def _rows(file: InputFile, source: SourceConfig, cfg: Config) -> Iterator[Row]:
    """Yield the rows of one file: with `text` what is kept, with `rule` what is removed."""
    place = file.path.removeprefix(fixed_folder(source.uri))
    limits = Limits(max_document_bytes=int(cfg.ingest.max_document_mb * 1e6))
    try:
        with open_input(file) as stream:
            for item in read_records(stream, file.path, source, limits):
                yield (
                    _raw(file, place, item)
                    if isinstance(item, Record)
                    else _removed(source.name, file.path, place, item)
                )
    except OSError as error:
        yield _removed(source.name, file.path, place, Bad("", "unreadable", error.strerror or str(error)))


def _check_unchanged(file: InputFile) -> None:
    try:
        unchanged = current_version(file) == file.sha256
    except OSError:
        unchanged = True  # gone or unreadable by now: on record already
    if not unchanged:
        raise InputError("changed while it was read", where=file.path, hint="Run again once it is written.")


def _raw(file: InputFile, place: str, record: Record) -> Row:
    return {
        "id": document_id(file.source, f"{place}#{record.number}", record.text),
        "source": file.source,
        "uri": f"{file.path}#{record.own_id or record.number}",
        "sha256": hashlib.sha256(record.text.encode()).hexdigest(),
        "text": record.text,
    }


def _removed(source: str, path: str, place: str, bad: Bad) -> Row:
    return {
        "id": document_id(source, f"{place}#{bad.place}", f"{bad.rule}: {bad.value}"),
        "source": source,
        "uri": f"{path}#{bad.place.rsplit(' ', 1)[-1]}" if bad.place else path,
        "stage": "ingest",
        "rule": bad.rule,
        "value": f"{bad.place}: {bad.value}" if bad.place else bad.value,
        "threshold": bad.threshold,
    }


def _stored(part: tuple[list[Row], list[Row]], work: str, night: str, name: str) -> Part:
    good, bad = part
    documents, n_bytes = Counter[str](), Counter[str]()
    removed: dict[str, Counter[str]] = defaultdict(Counter)
    for row in good:
        documents[row["source"]] += 1
        n_bytes[row["source"]] += len(row["text"].encode())
    for row in bad:
        removed[row["source"]][row["rule"]] += 1
    return Part(
        {
            f"{work}/{name}.parquet": pa.Table.from_pylist(good, schema=RAW),
            f"nights/{night}/removed/ingest-{name}.parquet": removed_table([row | {"night": night} for row in bad]),
        },
        {"documents": documents, "bytes": n_bytes, "removed": removed},
    )
