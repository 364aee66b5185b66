"""The stage between cleaning and segmentation: cleaned parts in, the night's documents and its minhash out.

Three steps, each resumable: sketch every part, decide once over all of them and the earlier nights, write every
part. Parts keep their names and the order of their rows, so a document's minhash, its text and what was removed
lie in files of one name.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.config import Config, DedupConfig
from slimpajama.dedup.candidates import caught_table
from slimpajama.dedup.columns import content_array, content_column, key_array, key_column, large_strings
from slimpajama.dedup.decide import Documents, Outcome, decide
from slimpajama.dedup.history import History
from slimpajama.dedup.kernel import VERSION, band_keys, sketch
from slimpajama.manifest import Counts, Manifest, Part, Stage, add_counts
from slimpajama.night import load_night, published_nights, work_folder
from slimpajama.progress import say, track
from slimpajama.schema import DOCUMENTS, MINHASH, REMOVED
from slimpajama.storage import Store, read_table

__all__ = ["deduplicate"]


def deduplicate(store: Store, cfg: Config, night: str, cleaned: Manifest) -> Manifest:
    """Remove exact and near-duplicates among tonight's documents and against all earlier nights'.

    Args:
        store: The workspace.
        cfg: `dedup`, the sources' priorities and `run` are used.
        night: The night the documents belong to.
        cleaned: Manifest of the cleaning.

    Returns:
        The stage's manifest. Files: `documents/PART` (DOCUMENTS), `removed/dedup-PART` (REMOVED) and
        `minhash/PART` (MINHASH, every document that came in). Counts: `kept` and `kept_bytes` by source,
        `kept_languages` by language, `removed` by source and rule, `removed_for_earlier` (partner of an earlier
        night), `compared` (pairs compared exactly).
    """
    earlier = [name for name in published_nights(store) if name != night]
    priorities = {source.name: source.priority for source in cfg.ingest.sources}
    about = {
        "version": VERSION,
        "settings": cfg.dedup,
        "priorities": priorities,
        "unicode": unicodedata.unidata_version,  # Python's tables decide lower case and white space
        "cleaned": cleaned.digest,
        "earlier": {name: load_night(store, name).digest for name in earlier},
    }
    stage = Stage(store, "dedup", work=work_folder(night, "dedup"), about=about)
    if stage.finished:
        return stage.result
    paths = cleaned.paths(work_folder(night, "clean"))
    names = [path.rsplit("/", 1)[1].removesuffix(".parquet") for path in paths]
    threads = cfg.run.threads()
    _sketch_parts(stage, cfg.dedup, list(zip(names, paths, strict=True)), threads)
    if not stage.has("decision"):
        history = History(store, earlier, cfg.dedup, first_shelf=len(paths))
        stage.commit("decision", _decide(stage, cfg.dedup, names, paths, priorities, history, threads))

    def write(unit: tuple[str, str]) -> Part:
        return _write_part(stage, cfg.dedup, night, *unit)

    stage.map([(name, (name, path)) for name, path in zip(names, paths, strict=True)], write, threads)
    return stage.finish()


def _sketch_parts(stage: Stage, cfg: DedupConfig, parts: list[tuple[str, str]], threads: int) -> None:
    """Commit `sketch-PART.parquet` for each part: all that the decision needs to know, without the text."""
    with track("dedup", total=len(parts), unit="parts") as bar:

        def make(unit: tuple[str, str]) -> Part:
            name, path = unit
            table = read_table(stage.store, path, ["id", "text", "source"])
            sketches = sketch(large_strings(table["text"]), cfg)
            columns = {
                "id": table["id"],
                "source": table["source"],
                "n_chars": pa.array(sketches.n_chars),
                "content": content_column(sketches.content),
                "bands": key_column(band_keys(sketches.signatures, cfg.bands, cfg.rows)),
            }
            return Part({f"{stage.work}/sketch-{name}.parquet": pa.table(columns)})

        units = [(f"sketch-{name}", (name, path)) for name, path in parts]
        stage.map(units, make, threads, lambda _: bar.advance())


def _decide(
    stage: Stage,
    cfg: DedupConfig,
    names: list[str],
    paths: list[str],
    priorities: dict[str, int],
    history: History,
    threads: int,
) -> Part:
    """Return `decision-PART.parquet` for each part, from one decision over all of them."""
    tables = [read_table(stage.store, f"{stage.work}/sketch-{name}.parquet") for name in names]
    if not tables:
        return Part(counts={"compared": 0})
    whole = pa.concat_tables(tables)
    rows = [np.arange(table.num_rows) for table in tables]
    shelves = [np.full(len(row), shelf) for shelf, row in enumerate(rows)]
    documents = Documents(
        ids=whole["id"].combine_chunks(),
        priority=np.array([priorities.get(name, 0) for name in whole["source"].to_pylist()], np.int64),
        n_chars=whole["n_chars"].to_numpy(),
        content=content_array(whole["content"]),
        keys=key_array(whole["bands"], cfg.bands),
        places=np.column_stack([np.concatenate(shelves), np.concatenate(rows)]),
    )

    def load(shelf: int, taken: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        if shelf >= len(paths):
            return history.texts(shelf, taken)
        return large_strings(read_table(stage.store, paths[shelf], ["text"])["text"].take(pa.array(taken)))

    table = ", ".join(f"{jaccard:g}: {caught:.3f}" for jaccard, caught in caught_table(cfg.bands, cfg.rows))
    say(f"{'dedup':<10} chance that a pair of that similarity is compared: {table}")
    outcome = decide(documents, history.batches(), load, cfg, threads)
    removed_for_earlier = _count_missing(outcome.duplicate_of, documents.ids)
    files, start = {}, 0
    for name, rows_of_part in zip(names, rows, strict=True):
        files[f"{stage.work}/decision-{name}.parquet"] = _decision_table(outcome, start, len(rows_of_part))
        start += len(rows_of_part)
    return Part(dict(files), {"compared": outcome.compared, "removed_for_earlier": removed_for_earlier})


def _count_missing(names: pa.Array, ids: pa.Array) -> int:
    """Return how many names that are not null are not among `ids`."""
    return int(pc.sum(pc.invert(pc.is_in(names.drop_null(), value_set=ids))).as_py() or 0)


def _decision_table(outcome: Outcome, start: int, length: int) -> pa.Table:
    part = slice(start, start + length)
    return pa.table(
        {
            "kept": outcome.kept[part],
            "exact": outcome.exact[part],
            "duplicate_of": outcome.duplicate_of.slice(start, length),
            "jaccard": outcome.jaccard[part],
            "cluster": outcome.cluster.slice(start, length),
        }
    )


def _write_part(stage: Stage, cfg: DedupConfig, night: str, name: str, path: str) -> Part:
    cleaned = read_table(stage.store, path)
    sketches = read_table(stage.store, f"{stage.work}/sketch-{name}.parquet", ["content", "bands"])
    decision = read_table(stage.store, f"{stage.work}/decision-{name}.parquet")
    kept = decision["kept"]
    documents = cleaned.filter(kept)
    documents = documents.append_column("night", pa.array([night] * documents.num_rows, pa.string()))
    minhash = {
        "id": cleaned["id"], "content": sketches["content"], "cluster": decision["cluster"], "kept": kept,
        "bands": sketches["bands"],
    }  # fmt: skip
    removed = _removed(cleaned.filter(pc.invert(kept)), decision.filter(pc.invert(kept)), cfg, night)
    folder = f"nights/{night}"
    files: dict[str, pa.Table | bytes] = {
        f"{folder}/documents/{name}.parquet": documents.select(DOCUMENTS.names).cast(DOCUMENTS),
        f"{folder}/removed/dedup-{name}.parquet": removed,
        f"{folder}/minhash/{name}.parquet": pa.table(minhash).cast(MINHASH),
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
        "value": [f"{value:.6f}" for value in similarity],
        "threshold": [f"{cfg.threshold:g}"] * len(exact),
        "duplicate_of": decision["duplicate_of"],
        "jaccard": decision["jaccard"],
    }
    return pa.table([_typed(columns[field.name], field.type) for field in REMOVED], schema=REMOVED)


def _typed(column: Any, dtype: pa.DataType) -> pa.ChunkedArray | pa.Array:
    return pa.array(column, dtype) if isinstance(column, list) else column.cast(dtype)


def _counts(documents: pa.Table, removed: pa.Table) -> Counts:
    rows = documents.select(["source", "lang", "n_bytes"]).to_pylist()
    counts: list[Counts] = [
        {"kept": {row["source"]: 1}, "kept_bytes": {row["source"]: row["n_bytes"]}, "kept_languages": {row["lang"]: 1}}
        for row in rows
    ]
    counts += [{"removed": {row["source"]: {row["rule"]: 1}}} for row in removed.select(["source", "rule"]).to_pylist()]
    return add_counts(counts)
