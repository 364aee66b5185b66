"""The first step of a night: new and changed raw files in, RAW parts and `removed/ingest-*.parquet` out.

What there is to say of a file or a document that was read, an encoding that was detected for one, is in
`notes/ingest-*.parquet`.

A unit is a group of small files or one large file. It hands out parts of at most `part_mb` of text as it reads,
each committed by itself, so neither memory nor the loss at a kill grows with a file's size.
"""

import contextlib
import dataclasses
import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import Config
from slimpajama.core.errors import printable
from slimpajama.core.schema import NOTES, RAW, refusals, removed_table, sums
from slimpajama.corpus.again import CLEANING, READING, Earlier, known_inputs, to_try_again
from slimpajama.corpus.clean.stage import CLEAN
from slimpajama.corpus.losses import require_files, tell_losses
from slimpajama.corpus.refused import by_file
from slimpajama.corpus.sources.discover import LEFT_OUT, InputFile, Plan, check_unchanged, open_input, plan
from slimpajama.corpus.sources.files import read, read_options
from slimpajama.corpus.sources.records import Batch, ReadOptions, framed, rejected_row
from slimpajama.corpus.sources.remote import fixed_folder
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Counts
from slimpajama.workspace.nights import corpus_settings
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.step import Part, Run, Step
from slimpajama.workspace.store import sha256
from slimpajama.workspace.tombstones import RULE, forgotten_list

Row = dict[str, Any]
Take = Callable[[InputFile, ReadOptions], Iterator[Batch]]
# Of a forgotten document that came in again; its row has no text, and no name of the document's own.
REFUSED = {"stage": "ingest", "rule": RULE, "value": "it was forgotten", "threshold": "none that was forgotten"}


def read_whole(file: InputFile, options: ReadOptions) -> Iterator[Batch]:
    """Yield all of a planned file."""
    return read(partial(open_input, file), file.path, options)


def plan_night(workspace: Workspace | None, cfg: Config, *, quick: bool = False) -> Plan:
    """Return what a night would read now: new and changed files, and those of which records are tried again.

    Args:
        workspace: Whose nights are known; None for none.
        cfg: What is to be read.
        quick: As of `plan`.

    Raises:
        EmptyInputError: No source has a file.
    """
    nights = workspace.nights.manifests() if workspace else {}
    versions = {READING: INGEST.version, CLEANING: CLEAN.version}
    again = to_try_again(workspace.store, nights, cfg, versions) if workspace else {}
    found = plan(cfg, known_inputs(nights), again, quick=quick)
    require_files(cfg, found)
    # What lies beside the data does so every night: it goes on record once.
    problems = (problem for night in nights.values() for problem in night.depends_on["stages"][READING]["problems"])
    told = {(source, path) for source, path, rule in problems if rule == LEFT_OUT.rule}
    return dataclasses.replace(
        found, problems=tuple(p for p in found.problems if p[2] is not LEFT_OUT or p[:2] not in told)
    )


def _todo(run: Run) -> Plan:
    given: Plan | None = run.options.get("todo")
    return given or plan_night(run.workspace, run.cfg)


def _forgotten(run: Run) -> pa.Array:
    return forgotten_list(run.store).texts()


def _inputs(run: Run) -> dict[str, Any]:
    todo, forgotten = run.once(_todo), run.once(_forgotten)
    inputs: dict[str, Any] = {
        "settings": corpus_settings(run.cfg)["ingest"],
        "inputs": [file.entry() for file in todo.files],
        "problems": [[source, path, bad.rule] for source, path, bad in todo.problems],
    }
    return inputs | ({"forgotten": sha256("".join(forgotten.to_pylist()).encode())} if len(forgotten) else {})


def _ingest(run: Run) -> None:
    todo, forgotten = run.once(_todo), run.once(_forgotten)
    take: Take = run.options.get("take", read_whole)
    # A sample of a file does not know the numbers of its records.
    again = () if "take" in run.options else todo.files
    earlier = Earlier(run.store, run.workspace.nights.earlier(run.night), again)

    def commit(name: str, bad: list[Row], files: dict[str, pa.Table | bytes], counts: Counts) -> None:
        removed = removed_table([row | {"night": run.night} for row in bad])
        files |= {f"{layout.night(run.night).removed}ingest-{name}.parquet": removed}
        refused = by_file((row["source"], row["path"], row["rule"]) for row in bad)
        run.commit(name, Part(files, counts | {"removed": refusals(removed), "refused": refused}))

    problems = [rejected_row(source, path, "", bad) | {"path": path} for source, path, bad in todo.problems]
    commit("plan", problems, {}, {"files": len(todo.files)})

    def make(unit: tuple[str, tuple[InputFile, ...]]) -> Part:
        prefix, files = unit
        for number, (good, bad, notes, again) in enumerate(_parts(files, run.cfg, take, earlier, forgotten)):
            name = f"{prefix}-{number:05d}"
            if not run.has(name):
                raw = pa.concat_tables([RAW.empty_table(), *good])
                documents, sizes = sums(raw.append_column("n_bytes", pc.binary_length(raw["text"])), "source")
                counts: Counts = {"documents": documents, "bytes": sizes} | ({"again": again} if again else {})
                made: dict[str, pa.Table | bytes] = {f"{run.work}/{name}.parquet": raw}
                if notes:
                    # Most parts have none: then no file and no count says so.
                    told = pa.Table.from_pylist(notes, NOTES)
                    made[f"{layout.night(run.night).notes}ingest-{name}.parquet"] = told
                    counts["notes"] = refusals(told)
                commit(name, bad, made, counts)
        return Part()

    units = [(f"unit-{number:05d}", (f"part-{number:05d}", unit)) for number, unit in enumerate(todo.units)]
    run.map(
        units,
        make,
        total=sum(file.bytes for file in todo.files),
        unit="B",
        amount=lambda unit: sum(file.bytes for file in unit[1]),
    )


def _tell_losses(run: Run) -> None:
    tell_losses(run.store, run.night, run.result, run.result.counts["removed"])


INGEST = Step("ingest", 5, _inputs, _ingest, tidy=_tell_losses, grows_with="text", raw="inputs")
"""Read what is new in the sources since the last published night, and what earlier nights refused where that is due.

Options: `todo`, a Plan, reads these files instead; `take`, what is read of a file. Files: parts of schema RAW in the
work folder, `removed/ingest-*.parquet` and, where there is something to say, `notes/ingest-*.parquet`. Counts: `files`,
`documents` and `bytes` (of text) by source, `again` (of the documents, those that an earlier night refused) by source,
`removed` and `notes` by source and rule, `refused` by source, file and rule. Raises EmptyInputError where no source has
a file, InputError where a source cannot be listed, or a file changed while it was read.
"""


def _parts(
    files: tuple[InputFile, ...], cfg: Config, take: Take, earlier: Earlier, forgotten: pa.Array
) -> Iterator[tuple[list[pa.Table], list[Row], list[Row], dict[str, int]]]:
    """Yield tables of schema RAW, REMOVED and NOTES rows, and how many records of a source an earlier night refused.

    They are cut whenever the text reaches `part_mb`.
    """
    sources = {source.name: source for source in cfg.ingest.sources}
    part_bytes = int(cfg.ingest.part_mb * 1e6)
    good: list[pa.Table] = []
    bad: list[Row] = []
    notes: list[Row] = []
    again: dict[str, int] = {}
    size = 0
    for file in files:
        source = sources[file.source]
        place = file.path.removeprefix(fixed_folder(source.uri))
        for batch in take(file, read_options(source, cfg.ingest)):
            raw = _raw(file, place, batch.table) if batch.table.num_rows else RAW.empty_table()
            told = _notes(file, batch, raw) if batch.notes else []
            raw, rejected = earlier.admit(file, batch.table["number"], raw, batch.rejected)
            listed = pc.is_in(raw["sha256"], value_set=forgotten)
            if pc.any(listed).as_py():
                came = {"source": file.source, "uri": file.path, "path": file.path}
                bad += [REFUSED | came | {"id": id_} for id_ in raw.filter(listed)["id"].to_pylist()]
                raw = raw.filter(pc.invert(listed))
            notes += [row for row in told if row["id"] in {None, *raw["id"].to_pylist()}]
            good += [raw] if raw.num_rows else []
            if file.again and raw.num_rows:
                again[file.source] = again.get(file.source, 0) + raw.num_rows
            bad += [rejected_row(source.name, file.path, place, item) | {"path": file.path} for item in rejected]
            size += batch.cost
            if size >= part_bytes:
                yield good, bad, notes, again
                good, bad, notes, again, size = [], [], [], {}, 0
        # A file that is gone or unreadable by now is on record already.
        with contextlib.suppress(OSError):
            check_unchanged(file)
    if good or bad or notes:
        yield good, bad, notes, again


def _notes(file: InputFile, batch: Batch, raw: pa.Table) -> list[Row]:
    """Return NOTES rows of a batch whose records are the rows of `raw`."""
    documents = dict(zip(batch.table["number"].to_pylist(), raw.select(["id", "uri"]).to_pylist(), strict=True))
    whole = {"id": None, "uri": file.path}
    return [
        {"source": file.source} | documents.get(number, whole) | dataclasses.asdict(note)
        for number, note in batch.notes
    ]


def _raw(file: InputFile, place: str, records: pa.Table) -> pa.Table:
    """Return records as RAW; ids are those of `document_id`, made without a Python string for a text."""
    text = records["text"].combine_chunks()
    _, offsets, data = text.buffers()
    ends = np.frombuffer(offsets, np.int64)[text.offset : text.offset + len(text) + 1].tolist()
    view = memoryview(data or b"")
    source = hashlib.sha256(framed(file.source.encode()))
    ids, hashes, uris = [], [], []
    for number, own_id, begin, end in zip(
        records["number"].to_pylist(), records["id"].to_pylist(), ends, ends[1:], strict=False
    ):
        digest = source.copy()
        digest.update(framed(f"{place}#{number}".encode()) + (end - begin).to_bytes(8, "little"))
        digest.update(view[begin:end])
        ids.append(digest.hexdigest()[:32])
        hashes.append(hashlib.sha256(view[begin:end]).hexdigest())
        uris.append(f"{file.path}#{printable(own_id, 200) if own_id else number}")
    return pa.table([ids, pa.repeat(file.source, len(ids)), uris, hashes, text], schema=RAW)
