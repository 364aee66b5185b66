"""The step before documents are written: survivors in, what of them stands word for word in many documents out.

Three passes, each resumable. Windows of each part of the night's documents (`find.py`); how many documents of all
nights have each (`count.py`); and the passages that the frequent ones cover. What earlier nights hold is known by their
files of windows, so no text of theirs is read.

A document is counted as it was cleaned, whatever is cut out of it. Where passages are cut, the first document that has
one keeps it whole: by the order of nights, parts and rows. So nothing is lost everywhere, and what an earlier night has
published goes before.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.core.logs import step_log
from slimpajama.core.schema import PASSAGES as COLUMNS
from slimpajama.core.schema import refusals, sums
from slimpajama.corpus.clean.normalise import table_versions
from slimpajama.corpus.dedup.columns import large_strings
from slimpajama.corpus.dedup.stage import cleaned_parts, refused
from slimpajama.corpus.passages.count import ROW_BITS, Counter, Range, load, ranges, window_file
from slimpajama.corpus.passages.cut import cut
from slimpajama.corpus.passages.find import VERSION, Passages, Repeated, Windows, passages, windows
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Counts, FileEntry, Manifest, add_counts, total
from slimpajama.workspace.nights import corpus_settings
from slimpajama.workspace.parquet import read_table, reading
from slimpajama.workspace.step import Part, Run, Step

# Files whose ids stay in memory: 16 MB or so.
FILES = 64
HITS = pa.schema(
    [
        ("file", pa.uint32()),
        ("row", pa.uint32()),
        ("hash", pa.uint64()),
        ("count", pa.int64()),
        ("first", pa.uint64()),
        ("last", pa.uint64()),
    ]
)
"""Windows that stand in enough documents, by the documents that have them; `first` and `last` are places."""


class File(NamedTuple):
    """A part of a night, whose windows are counted."""

    night: str
    windows: FileEntry
    ids: FileEntry
    """Where the ids of its rows are."""
    lost: bool
    """Whether some of its documents did not stay in the corpus, as `kept` beside the ids says."""


def _earlier(run: Run) -> dict[str, Manifest]:
    """Return the earlier nights whose windows compare with tonight's."""
    asked, nights = _comparing(run), run.workspace.nights.earlier(run.night)
    made = {name: manifest.depends_on["stages"].get("passages", {}) for name, manifest in nights.items()}
    return {name: manifest for name, manifest in nights.items() if made[name].get("windows") == asked}


def _comparing(run: Run) -> dict[str, Any]:
    """Return what later nights tell by whether their windows compare with tonight's."""
    return {"version": VERSION, "tokens": run.cfg.dedup.passage_tokens, **table_versions()}


def _inputs(run: Run) -> dict[str, Any]:
    cfg = run.cfg
    inputs = {
        "windows": _comparing(run),
        "documents": cfg.dedup.passage_documents,
        "earlier": {name: manifest.digest for name, manifest in run.once(_earlier).items()},
    }
    return inputs | ({"cut": corpus_settings(cfg)["clean"]} if cfg.dedup.cut_passages else {})


def _passages(run: Run) -> Counts:
    parts = cleaned_parts(run)
    run.map(
        [(f"windows-{name}", name) for name in parts], lambda name: _window_part(run, name, parts[name]), unit="parts"
    )
    if others := len(run.workspace.nights.earlier(run.night)) - len(run.once(_earlier)):
        step_log(run.name).info(
            f"{others} earlier nights have no windows of {run.cfg.dedup.passage_tokens} tokens: not counted"
        )
    history, tonight = _history(run), list[File]()
    for name, cleaned in parts.items():
        tonight += [File(run.night, entry, cleaned, lost=False) for entry in run.part_files(f"windows-{name}")]
    text_bytes = total(run.made["clean"].counts.get("bytes", {}))
    todo = [(f"count-{wanted.name}", wanted) for wanted in ranges(text_bytes, run.cfg.dedup.memory_mb * 1_000_000)]
    # One at a time, for each takes all the memory there is; other processes may have others.
    run.map(todo, lambda wanted: _count(run, wanted, history, tonight), workers=1)
    counted = [entry for key, _ in todo for entry in run.part_files(key)]
    lookup = _Lookup(run, [*history, *tonight])

    def find(number: int) -> Part:
        return _find(run, number, counted, lookup)

    found = run.map(
        [(f"find-{layout.stem(file.ids.path)}", number) for number, file in enumerate(tonight, len(history))], find
    )
    return add_counts([{"passages": {}, "documents": {}, "bytes": {}, "taken": 0, "removed": {}}, *found])


PASSAGES = Step(
    "passages",
    VERSION,
    _inputs,
    _passages,
    needs={"cleaned": "clean", "compared": "compare", "contaminated": "decontaminate"},
    grows_with="cleaned",
    folders="work/(clean|compare)|windows",
)
"""Find the passages that stand in many documents, and what is left of documents that they are cut out of.

Files: `passages/PART` (PASSAGES), `windows/PART` (see `count.window_file`), `removed/passages-PART` (REMOVED; documents
that are too short without their passages) and `cut-PART` in the work folder (CLEANED; documents without them). Counts:
`passages`, `documents` that have any and `bytes` of them by source, `taken` (bytes that are cut out or removed) and
`removed` by source and rule.
"""


def _night(run: Run) -> layout.Night:
    return layout.night(run.night)


def _history(run: Run) -> list[File]:
    files = []
    for name, manifest in run.once(_earlier).items():
        night, listed = layout.night(name), {entry.path: entry for entry in manifest.files}
        lost = bool(manifest.counts["passages"].get("removed"))
        for entry in manifest.entries(night.within("windows")):
            files.append(File(name, entry, listed[f"{night.minhash}{layout.name_of(entry.path)}"], lost))
    return files


def _window_part(run: Run, name: str, cleaned: FileEntry) -> Part:
    """Return the windows of a part's documents that are neither duplicates nor refused; rows are the cleaned ones'."""
    table = read_table(run.store, cleaned, ["id", "text"])
    decided = run.made["compare"].file(f"{_night(run).work('compare')}/decision-{name}.parquet")
    kept = read_table(run.store, decided, ["kept"])["kept"]
    stays = pc.and_not(kept, refused(run, name, table["id"], "decontaminate"))
    found = windows(large_strings(table["text"].filter(stays)), run.cfg.dedup.passage_tokens)
    rows = np.flatnonzero(stays.to_numpy())[found.rows].astype(np.uint32)
    return Part({_night(run).windows(name): window_file(Windows(found.hashes, rows))})


def _count(run: Run, wanted: Range, history: Sequence[File], tonight: Sequence[File]) -> Part:
    """Return the windows of a range that stand in enough documents, by tonight's documents that have them."""
    least = run.cfg.dedup.passage_documents
    own = [load(run.store, file.windows, wanted) for file in tonight]
    counter = Counter(own, 1 if history else least)
    for number, file in enumerate(history):
        found = load(run.store, file.windows, wanted)
        if file.lost:
            kept = read_table(run.store, file.ids, ["kept"])["kept"].to_numpy()[found.rows]
            found = Windows(found.hashes[kept], found.rows[kept])
        counter.add(found, number)
    for number, found in enumerate(own, len(history)):
        counter.add(found, number)
    repeated, tables = counter.repeated(least), [HITS.empty_table()]
    for number, found in enumerate(own, len(history)):
        place = np.searchsorted(repeated.hashes, found.hashes)
        hit = np.append(repeated.hashes, np.uint64(0))[place] == found.hashes
        hit &= place < len(repeated.hashes)
        columns = (column[place[hit]] for column in repeated)
        rows = [np.full(hit.sum(), number, np.uint32), found.rows[hit], *columns]
        tables.append(pa.table(rows, schema=HITS))
    return Part({f"{run.work}/count-{wanted.name}.parquet": pa.concat_tables(tables)})


class _Lookup:
    """Finds the ids of documents by their places."""

    def __init__(self, run: Run, files: Sequence[File]) -> None:
        self.files = files

        @lru_cache(maxsize=FILES)
        def ids(number: int) -> pa.ChunkedArray:
            return read_table(run.store, files[number].ids, ["id"])["id"]

        self._ids: Callable[[int], pa.ChunkedArray] = ids

    def __call__(self, places: npt.NDArray[np.uint64]) -> tuple[list[str], list[str]]:
        """Return ids and nights."""
        numbers = (places >> np.uint64(ROW_BITS)).astype(np.int64)
        rows = (places & np.uint64((1 << ROW_BITS) - 1)).astype(np.int64)
        names = np.empty(len(places), object)
        for number in np.unique(numbers).tolist():
            here = numbers == number
            names[here] = self._ids(number).take(pa.array(rows[here])).to_pylist()
        return names.tolist(), [self.files[number].night for number in numbers.tolist()]


def _find(run: Run, number: int, counted: Sequence[FileEntry], lookup: _Lookup) -> Part:
    """Return the passages of the documents of a part, and the documents without them where they are cut out."""
    file, night, cfg = lookup.files[number], _night(run), run.cfg
    name, hits = layout.name_of(file.ids.path), _hits(run, counted, number)
    if not len(hits):
        return Part()
    rows = np.unique(hits["row"].to_numpy())
    columns = None if cfg.dedup.cut_passages else ["id", "source", "lang", "text"]
    cleaned = read_table(run.store, file.ids, columns).take(pa.array(rows)).combine_chunks()
    ends = np.searchsorted(hits["row"].to_numpy(), [*rows.tolist(), 1 << ROW_BITS])
    first, last = hits["first"].to_numpy(), hits["last"].to_numpy()
    is_first = first == (np.uint64(number << ROW_BITS) | hits["row"].to_numpy())
    repeated = Repeated(ends, hits["hash"].to_numpy(), hits["count"].to_numpy(), is_first)
    found = passages(large_strings(cleaned["text"]), cfg.dedup.passage_tokens, repeated)
    others = lookup(np.where(is_first, last, first)[found.window])
    table = _table(cleaned, found, repeated, others, cut=cfg.dedup.cut_passages)
    by_source, sizes = sums(table, "source")
    documents, _ = sums(table.group_by(["id", "source"]).aggregate([("n_bytes", "sum")]), "source", "n_bytes_sum")
    counts: Counts = {"passages": by_source, "bytes": sizes, "documents": documents}
    files = {f"{night.passages}{name}": table}
    if len(goes := table.filter(table["cut"])):
        shortened, removed, taken = cut(cleaned, goes, cfg.clean, run.night)
        files |= {f"{run.work}/cut-{name}": shortened, f"{night.removed}passages-{name}": removed}
        counts |= {"taken": taken, "removed": refusals(removed)}
    return Part(files, counts)


def _table(
    cleaned: pa.Table, found: Passages, repeated: Repeated, others: tuple[list[str], list[str]], *, cut: bool
) -> pa.Table:
    """Return passages as PASSAGES rows; `others` are the ids and nights of other documents that have them."""
    begins, ends, texts = _spans(cleaned["text"], found)
    made = {name: cleaned[name].take(pa.array(found.row)) for name in ("id", "source", "lang")} | {
        "begin": begins,
        "end": ends,
        "n_bytes": found.end - found.begin,
        "key": found.key,
        "documents": repeated.counts[found.window],
        "cut": ~repeated.first[found.window] & cut,
        "other": others[0],
        "other_night": others[1],
        "text": texts,
    }
    return pa.table(made).cast(COLUMNS)


def _hits(run: Run, counted: Sequence[FileEntry], number: int) -> pa.Table:
    """Return the HITS of a file, ordered by row and hash."""
    tables = [HITS.empty_table()]
    for entry in counted:
        with reading(run.store, entry) as file:
            parquet = pq.ParquetFile(file)
            column = [parquet.metadata.row_group(group).column(0) for group in range(parquet.num_row_groups)]
            groups = [g for g, one in enumerate(column) if one.statistics.min <= number <= one.statistics.max]
            found = parquet.read_row_groups(groups, use_threads=False)
        tables.append(found.filter(pc.equal(found["file"], number)))
    return pa.concat_tables(tables).sort_by([("row", "ascending"), ("hash", "ascending")])


def _spans(texts: pa.ChunkedArray, found: Passages) -> tuple[list[int], list[int], list[str]]:
    """Return where passages begin and end, in characters, and what they say."""
    begins, ends, said = list[int](), list[int](), list[str]()
    row, data, place, char = -1, b"", 0, 0
    for at, begin, end in zip(found.row.tolist(), found.begin.tolist(), found.end.tolist(), strict=True):
        if at != row:
            row, data, place, char = at, texts[at].as_py().encode(), 0, 0
        char += len(data[place:begin].decode())
        said.append(data[begin:end].decode())
        begins.append(char)
        char += len(said[-1])
        ends.append(char)
        place = end
    return begins, ends, said
