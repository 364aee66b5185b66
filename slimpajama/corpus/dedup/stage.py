"""The steps between cleaning and segmentation: cleaned parts in, the night's documents and its minhash out.

`compare` sketches every part and decides once over all of them and the earlier nights; `dedup` writes every part. What
decontamination refuses is known in between, so a document is written once, or not at all. Parts keep their names and
the order of their rows, so a document's minhash, its band keys, its text and what was removed lie in files of one name.

What is published never changes, so sources that change are met like this. A file that was edited is read again as a
whole: what is as before is removed as an exact duplicate of the earlier night's document; what was edited a little, as
a near-duplicate of it, so the earlier version stays; what was edited much is a document of its own. A file that was
deleted leaves its documents where they are. `about["edited"]` lists the files read again, by source.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import DedupConfig
from slimpajama.core.logs import step_log
from slimpajama.core.schema import DOCUMENTS, MINHASH, REMOVED
from slimpajama.corpus.dedup.candidates import caught_table
from slimpajama.corpus.dedup.columns import (
    content_array,
    content_column,
    key_file,
    large_strings,
    pack_ids,
    read_keys,
    read_texts,
    text_file,
    unpack_ids,
)
from slimpajama.corpus.dedup.decide import Outcome, decide
from slimpajama.corpus.dedup.history import History
from slimpajama.corpus.dedup.history_join import Documents
from slimpajama.corpus.dedup.kernel import VERSION, sketch
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Counts, Manifest, add_counts, load_manifest
from slimpajama.workspace.parquet import read_table, reading
from slimpajama.workspace.step import Part, Run, Step
from slimpajama.workspace.store import Store


def _earlier(run: Run) -> dict[str, Manifest]:
    return run.workspace.nights.earlier(run.night)


def _priorities(run: Run) -> dict[str, int]:
    return {source.name: source.priority for source in run.cfg.ingest.sources}


def _compare_inputs(run: Run) -> dict[str, Any]:
    return _sketching(run.cfg.dedup) | {
        "priorities": _priorities(run),
        "earlier": {name: manifest.digest for name, manifest in run.once(_earlier).items()},
    }


def _compare(run: Run) -> None:
    paths, names = _parts(run)
    units = [(f"sketch-{name}", (name, path)) for name, path in zip(names, paths, strict=True)]
    run.map(units, lambda unit: _sketch_part(run, *unit), unit="parts")
    if not all(run.has(f"decision-{name}") for name in names):
        _decide(run, names, History(run.store, run.once(_earlier), run.cfg.dedup))


COMPARE = Step("compare", VERSION, _compare_inputs, _compare, needs={"cleaned": "clean"}, grows_with="cleaned")
"""Find exact and near-duplicates among the night's documents and among all earlier nights'.

Files: `decision-PART` in the work folder (`kept`, `exact`, `duplicate_of`, `jaccard`, `cluster` of each cleaned row),
`bands/PART` and `texts/PART.arrow` (band keys and texts, see `columns.key_file` and `columns.text_file`). Counts:
`compared` (pairs compared exactly) and `removed_for_earlier` (partner of an earlier night).
"""


def _dedup_inputs(run: Run) -> dict[str, Any]:
    return _sketching(run.cfg.dedup) | {"edited": _edited(run)}


def _deduplicate(run: Run) -> Counts:
    removed = layout.night(run.night).removed
    refused = {path.rsplit("/decontaminate-", 1)[1]: path for path in run.made["decontaminate"].paths(removed)}

    def make(unit: tuple[str, str]) -> Part:
        name, path = unit
        rows, found = read_table(run.store, path), refused.get(f"{name}.parquet")
        ids = read_table(run.store, found, ["id"])["id"] if found else rows["id"].slice(0, 0)
        return _write_part(run, name, rows, pc.is_in(rows["id"], value_set=ids.combine_chunks()))

    paths, names = _parts(run)
    units = [(name, (name, path)) for name, path in zip(names, paths, strict=True)]
    return add_counts([run.made["compare"].counts, *run.map(units, make, unit="parts")])


DEDUP = Step(
    "dedup",
    VERSION,
    _dedup_inputs,
    _deduplicate,
    needs={"cleaned": "clean", "compared": "compare", "contaminated": "decontaminate"},
    grows_with="cleaned",
)
"""Write the night's documents without the duplicates and without what decontamination refused.

Files: `documents/PART` (DOCUMENTS), `removed/dedup-PART` (REMOVED) and `minhash/PART` (MINHASH, every document that
came in). Counts: those of `compare`, `kept` and `kept_bytes` by source, `kept_languages` by language, `removed` by
source and rule.
"""


def _sketching(cfg: DedupConfig) -> dict[str, Any]:
    """Return what later nights tell by whether their keys compare with tonight's."""
    return {
        "version": VERSION,
        "settings": {name: value for name, value in asdict(cfg).items() if name != "memory_mb"},
        # Python's tables decide lower case and white space.
        "unicode": unicodedata.unidata_version,
    }


def _parts(run: Run) -> tuple[list[str], list[str]]:
    """Return the cleaned parts' paths and names."""
    paths = run.made["clean"].paths(f"{layout.night(run.night).work('clean')}/")
    return paths, [layout.stem(path) for path in paths]


def _edited(run: Run) -> dict[str, list[str]]:
    """Return the raw files that an earlier night read in another form, by source."""
    ingested = load_manifest(run.store, f"{layout.night(run.night).work('ingest')}/{layout.MANIFEST}")
    seen = {
        (entry["source"], entry["path"])
        for manifest in run.once(_earlier).values()
        for entry in manifest.about["stages"].get("ingest", {"inputs": ()})["inputs"]
    }
    again: dict[str, list[str]] = {}
    for entry in ingested.about["inputs"] if ingested else ():
        if (entry["source"], entry["path"]) in seen:
            again.setdefault(entry["source"], []).append(entry["path"])
    return again


def _sketch_part(run: Run, name: str, path: str) -> Part:
    """Return `sketch-PART`, band keys and texts: what the decision needs to know, and the little it looks up."""
    table, night = read_table(run.store, path, ["id", "text", "source"]), layout.night(run.night)
    texts = large_strings(table["text"])
    sketches = sketch(texts, run.cfg.dedup)
    columns = {
        "id": pack_ids(table["id"].combine_chunks()),
        "source": table["source"].combine_chunks().dictionary_encode(),
        "n_chars": sketches.n_chars,
        "content": content_column(sketches.content),
    }
    files: dict[str, pa.Table | bytes] = {
        f"{run.work}/sketch-{name}.parquet": pa.table(columns),
        night.bands(name): key_file(sketches.content, sketches.keys),
        night.texts(name): text_file(texts),
    }
    return Part(files)


def _decide(run: Run, names: list[str], history: History) -> None:
    """Commit `decision-PART` for each part, from one decision over all of them."""
    store, cfg, night = run.store, run.cfg.dedup, layout.night(run.night)
    documents = _documents([f"{run.work}/sketch-{name}.parquet" for name in names], store, _priorities(run))

    def keys(groups: Sequence[int]) -> Iterator[npt.NDArray[np.uint64]]:
        for name in names:
            with reading(store, night.bands(name)) as file:
                yield read_keys(file, groups)

    def load(shelf: int, taken: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        with reading(store, night.texts(names[shelf])) as file:
            return read_texts(file, taken)

    table = ", ".join(f"{jaccard:g}: {caught:.3f}" for jaccard, caught in caught_table(cfg.bands, cfg.rows))
    step_log("compare").info(f"chance that a pair of that similarity is compared: {table}")
    outcome = decide(documents, keys, history, load, cfg, run.cfg.run.threads())
    stops = [*documents.starts[1:].tolist(), len(outcome.kept)]
    for name, start, stop in zip(names, documents.starts.tolist(), stops, strict=True):
        part = slice(start, stop)
        counts = {"compared": 0 if start else outcome.compared, "removed_for_earlier": outcome.for_earlier(part)}
        files: dict[str, pa.Table | bytes] = {f"{run.work}/decision-{name}.parquet": _decision_table(outcome, part)}
        run.commit(f"decision-{name}", Part(files, counts))


def _documents(paths: list[str], store: Store, priorities: dict[str, int]) -> Documents:
    ids, priority, n_chars, content, starts = [], [], [], [], [0]
    for path in paths:
        table = read_table(store, path)
        source = table["source"].combine_chunks()
        ids.append(table["id"].combine_chunks())
        ranks = np.array([priorities.get(name, 0) for name in source.dictionary.to_pylist()], np.int32)
        priority.append(ranks[source.indices.to_numpy()])
        n_chars.append(table["n_chars"].to_numpy())
        content.append(content_array(table["content"]))
        starts.append(starts[-1] + table.num_rows)
    return Documents(
        pa.concat_arrays([pa.array([], pa.binary(16)), *ids]),
        np.concatenate([np.zeros(0, np.int32), *priority]),
        np.concatenate([np.zeros(0, np.uint32), *n_chars]),
        np.concatenate([np.zeros((0, 16), np.uint8), *content]),
        np.array(starts[:-1], np.int64),
    )


def _decision_table(outcome: Outcome, part: slice) -> pa.Table:
    return pa.table(
        {
            "kept": outcome.kept[part],
            "exact": outcome.exact[part],
            "duplicate_of": unpack_ids(outcome.duplicate_of(part)),
            "jaccard": pa.array(outcome.jaccard[part], from_pandas=True),
            "cluster": unpack_ids(outcome.cluster(part)),
        }
    )


def _write_part(run: Run, name: str, cleaned: pa.Table, refused: pa.ChunkedArray) -> Part:
    night = layout.night(run.night)
    work = night.work("compare")
    content = read_table(run.store, f"{work}/sketch-{name}.parquet", ["content"])["content"]
    decision = read_table(run.store, f"{work}/decision-{name}.parquet")
    duplicate = pc.invert(decision["kept"])
    kept = pc.and_not(decision["kept"], refused)
    documents = cleaned.filter(kept)
    documents = documents.append_column("night", pa.array([run.night] * documents.num_rows, pa.string()))
    minhash = {"id": cleaned["id"], "content": content, "cluster": decision["cluster"], "kept": kept}
    removed = _removed(cleaned.filter(duplicate), decision.filter(duplicate), run.cfg.dedup, run.night)
    files: dict[str, pa.Table | bytes] = {
        f"{night.documents}{name}.parquet": documents.select(DOCUMENTS.names).cast(DOCUMENTS),
        f"{night.removed}dedup-{name}.parquet": removed,
        f"{night.minhash}{name}.parquet": pa.table(minhash).cast(MINHASH),
    }
    return Part(files, _counts(documents, removed))


def _removed(rows: pa.Table, decision: pa.Table, cfg: DedupConfig, night: str) -> pa.Table:
    """Return CLEANED rows as REMOVED rows."""
    exact = decision["exact"].to_pylist()
    similarity = decision["jaccard"].to_pylist()
    columns = {name: rows[name] for name in ("id", "source", "uri", "lang", "sha256", "n_chars", "text")} | {
        "night": [night] * len(exact),
        "stage": ["dedup"] * len(exact),
        "rule": ["exact-duplicate" if same else "near-duplicate" for same in exact],
        "value": ["shares a band key" if value is None else f"{value:.6f}" for value in similarity],
        "threshold": [f"{cfg.threshold:g}" if cfg.verify else f"{cfg.bands} bands of {cfg.rows} rows"] * len(exact),
        "duplicate_of": decision["duplicate_of"],
        "jaccard": decision["jaccard"],
    }
    return pa.table([_typed(columns[field.name], field.type) for field in REMOVED], schema=REMOVED)


def _typed(column: Any, dtype: pa.DataType) -> pa.ChunkedArray | pa.Array:
    return pa.array(column, dtype) if isinstance(column, list) else column.cast(dtype)


def _counts(documents: pa.Table, removed: pa.Table) -> Counts:
    by_source = documents.group_by("source").aggregate([([], "count_all"), ("n_bytes", "sum")]).to_pylist()
    by_language = documents.group_by("lang").aggregate([([], "count_all")]).to_pylist()
    by_rule = removed.group_by(["source", "rule"]).aggregate([([], "count_all")]).to_pylist()
    counts: list[Counts] = [{"kept": {row["source"]: row["count_all"]}} for row in by_source]
    counts += [{"kept_bytes": {row["source"]: row["n_bytes_sum"]}} for row in by_source]
    counts += [{"kept_languages": {row["lang"]: row["count_all"]}} for row in by_language]
    counts += [{"removed": {row["source"]: {row["rule"]: row["count_all"]}}} for row in by_rule]
    return add_counts(counts)
