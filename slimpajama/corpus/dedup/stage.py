"""The stages between cleaning and segmentation: cleaned parts in, the night's documents and its minhash out.

Three steps, each resumable: `compare` sketches every part and decides once over all of them and the earlier nights;
`deduplicate` writes every part. What decontamination refuses is known in between, so a document is written once, or
not at all. Parts keep their names and the order of their rows, so a document's minhash, its band keys, its text and
what was removed lie in files of one name.

What is published never changes, so sources that change are met like this. A file that was edited is read again as a
whole: what is as before is removed as an exact duplicate of the earlier night's document; what was edited a little, as
a near-duplicate of it, so the earlier version stays; what was edited much is a document of its own. A file that was
deleted leaves its documents where they are. `about["edited"]` lists the files read again, by source.
"""

from __future__ import annotations

import unicodedata
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import Config, DedupConfig
from slimpajama.core.progress import say, track
from slimpajama.core.schema import DOCUMENTS, MINHASH, REMOVED
from slimpajama.corpus.dedup.candidates import caught_table
from slimpajama.corpus.dedup.columns import (
    content_array,
    content_column,
    key_file,
    large_strings,
    load_keys,
    load_texts,
    pack_ids,
    text_file,
)
from slimpajama.corpus.dedup.decide import decide
from slimpajama.corpus.dedup.documents import DocumentFile, Documents, History
from slimpajama.corpus.dedup.history import NightsHistory
from slimpajama.corpus.dedup.kernel import VERSION, sketch
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Counts, Manifest, add_counts, load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.stage import Part, Stage
from slimpajama.workspace.store import Store


def compare(workspace: Workspace, cfg: Config, night: str, cleaned: Manifest) -> Manifest:
    """Find exact and near-duplicates among tonight's documents and among all earlier nights'.

    Args:
        workspace: The workspace.
        cfg: `dedup`, the sources' priorities and `run` are used.
        night: The night the documents belong to.
        cleaned: Manifest of the cleaning.

    Returns:
        The stage's manifest. Files: `decision-PART` in the work folder (`kept`, `exact`, `duplicate_of`, `jaccard`,
        `cluster` of each cleaned row), `bands/PART` and `texts/PART.arrow` (band keys and texts, see
        `columns.key_file` and `columns.text_file`). Counts: `compared` (pairs compared exactly) and
        `removed_for_earlier` (partner of an earlier night).
    """
    earlier = workspace.nights.earlier(night)
    priorities = {source.name: source.priority for source in cfg.ingest.sources}
    about = _sketching(cfg.dedup) | {
        "priorities": priorities,
        "cleaned": cleaned.digest,
        "earlier": {name: manifest.digest for name, manifest in earlier.items()},
    }
    stage = Stage(workspace.store, "compare", work=layout.night(night).work("compare"), about=about)
    if stage.finished:
        return stage.result
    paths, names = _parts(cleaned, night)
    threads = cfg.run.threads()
    with track("compare", total=len(names), unit="parts") as bar:
        sketched = [(f"sketch-{name}", unit) for name, unit in zip(names, zip(names, paths, strict=True), strict=True)]
        stage.map(sketched, lambda u: _sketch_part(stage, cfg.dedup, night, *u), threads, lambda _: bar.advance())
    if not all(stage.has(f"decision-{name}") for name in names):
        _decide(stage, cfg.dedup, night, names, priorities, NightsHistory(workspace.store, earlier, cfg.dedup), threads)
    return stage.finish()


def deduplicate(
    workspace: Workspace, cfg: Config, night: str, cleaned: Manifest, compared: Manifest, contaminated: Manifest
) -> Manifest:
    """Write tonight's documents without the duplicates and without what decontamination refused.

    Args:
        workspace: The workspace.
        cfg: `dedup` and `run` are used.
        night: The night the documents belong to.
        cleaned: Manifest of the cleaning.
        compared: Manifest of `compare`.
        contaminated: Manifest of the decontamination; its `removed` files name documents that are not kept either.

    Returns:
        The stage's manifest. Files: `documents/PART` (DOCUMENTS), `removed/dedup-PART` (REMOVED) and `minhash/PART`
        (MINHASH, every document that came in). Counts: those of `compare`, `kept` and `kept_bytes` by source,
        `kept_languages` by language, `removed` by source and rule.
    """
    earlier = workspace.nights.earlier(night)
    about = _sketching(cfg.dedup) | {
        "cleaned": cleaned.digest,
        "compared": compared.digest,
        "contaminated": contaminated.digest,
        "edited": _edited(workspace.store, night, earlier),
    }
    stage = Stage(workspace.store, "dedup", work=layout.night(night).work("dedup"), about=about)
    if stage.finished:
        return stage.result
    refused = {path.rsplit("/decontaminate-", 1)[1]: path for path in contaminated.paths(f"nights/{night}/removed/")}

    def make(unit: tuple[str, str]) -> Part:
        name, path = unit
        rows, found = read_table(workspace.store, path), refused.get(f"{name}.parquet")
        ids = read_table(workspace.store, found, ["id"])["id"] if found else rows["id"].slice(0, 0)
        return _write_part(stage, cfg.dedup, night, name, rows, pc.is_in(rows["id"], value_set=ids.combine_chunks()))

    paths, names = _parts(cleaned, night)
    units = [(name, (name, path)) for name, path in zip(names, paths, strict=True)]
    with track("dedup", total=len(units), unit="parts") as bar:
        counts = stage.map(units, make, cfg.run.threads(), lambda _: bar.advance())
    return stage.finish(add_counts([compared.counts, *counts]))


def _sketching(cfg: DedupConfig) -> dict[str, Any]:
    """Return what later nights tell by whether their keys compare with tonight's."""
    return {
        "version": VERSION,
        "settings": {name: value for name, value in asdict(cfg).items() if name != "memory_mb"},
        # Python's tables decide lower case and white space.
        "unicode": unicodedata.unidata_version,
    }


def _parts(cleaned: Manifest, night: str) -> tuple[list[str], list[str]]:
    """Return the cleaned parts' paths and names."""
    paths = cleaned.paths(f"{layout.night(night).work('clean')}/")
    return paths, [layout.stem(path) for path in paths]


def _edited(store: Store, night: str, earlier: dict[str, Manifest]) -> dict[str, list[str]]:
    """Return the raw files that an earlier night read in another form, by source."""
    ingested = load_manifest(store, f"{layout.night(night).work('ingest')}/{layout.MANIFEST}")
    seen = {
        (entry["source"], entry["path"])
        for manifest in earlier.values()
        for entry in manifest.about["stages"].get("ingest", {"inputs": ()})["inputs"]
    }
    again: dict[str, list[str]] = {}
    for entry in ingested.about["inputs"] if ingested else ():
        if (entry["source"], entry["path"]) in seen:
            again.setdefault(entry["source"], []).append(entry["path"])
    return again


def _sketch_part(stage: Stage, cfg: DedupConfig, night: str, name: str, path: str) -> Part:
    """Return `sketch-PART`, band keys and texts: what the decision needs to know, and the little it looks up."""
    table = read_table(stage.store, path, ["id", "text", "source"])
    texts = large_strings(table["text"])
    sketches = sketch(texts, cfg)
    columns = {
        "id": pack_ids(table["id"].combine_chunks()),
        "source": table["source"].combine_chunks().dictionary_encode(),
        "n_chars": sketches.n_chars,
        "content": content_column(sketches.content),
    }
    files: dict[str, pa.Table | bytes] = {
        f"{stage.work}/sketch-{name}.parquet": pa.table(columns),
        layout.night(night).bands(name): key_file(sketches.content, sketches.keys),
        layout.night(night).texts(name): text_file(texts),
    }
    return Part(files)


def _decide(
    stage: Stage,
    cfg: DedupConfig,
    night: str,
    names: list[str],
    priorities: dict[str, int],
    history: History,
    threads: int,
) -> None:
    """Commit `decision-PART` for each part, from one decision over all of them."""
    table = ", ".join(f"{jaccard:g}: {caught:.3f}" for jaccard, caught in caught_table(cfg.bands, cfg.rows))
    say("compare", f"chance that a pair of that similarity is compared: {table}")
    sketched = (_sketched_file(stage, night, name, priorities) for name in names)
    documents = Documents.of(sketched, pa.binary(16))
    outcome = decide(documents, history, cfg, threads)
    for number, (name, part) in enumerate(zip(names, documents.slices(), strict=True)):
        counts = {"compared": 0 if number else outcome.compared, "removed_for_earlier": outcome.for_earlier(part)}
        files: dict[str, pa.Table | bytes] = {f"{stage.work}/decision-{name}.parquet": outcome.table(part)}
        stage.commit(f"decision-{name}", Part(files, counts))


def _sketched_file(stage: Stage, night: str, name: str, priorities: dict[str, int]) -> DocumentFile:
    """Return what `_sketch_part` left of a part."""
    table = read_table(stage.store, f"{stage.work}/sketch-{name}.parquet")
    source = table["source"].combine_chunks()
    ranks = np.array([priorities.get(name, 0) for name in source.dictionary.to_pylist()], np.int32)
    return DocumentFile(
        table["id"].combine_chunks(),
        table["n_chars"].to_numpy(),
        content_array(table["content"]),
        partial(load_keys, stage.store, layout.night(night).bands(name)),
        partial(load_texts, stage.store, layout.night(night).texts(name)),
        ranks[source.indices.to_numpy()],
    )


def _write_part(
    stage: Stage, cfg: DedupConfig, night: str, name: str, cleaned: pa.Table, refused: pa.ChunkedArray
) -> Part:
    """Return the kept documents, the removed ones and what later nights compare with, of one part."""
    work, place = layout.night(night).work("compare"), layout.night(night)
    content = read_table(stage.store, f"{work}/sketch-{name}.parquet", ["content"])["content"]
    decision = read_table(stage.store, f"{work}/decision-{name}.parquet")
    duplicate = pc.invert(decision["kept"])
    kept = pc.and_not(decision["kept"], refused)
    documents = cleaned.filter(kept)
    documents = documents.append_column("night", pa.repeat(night, documents.num_rows))
    minhash = {"id": cleaned["id"], "content": content, "cluster": decision["cluster"], "kept": kept}
    removed = _removed(cleaned.filter(duplicate), decision.filter(duplicate), cfg, night)
    files: dict[str, pa.Table | bytes] = {
        f"{place.documents}{name}.parquet": documents.select(DOCUMENTS.names).cast(DOCUMENTS),
        f"{place.removed}dedup-{name}.parquet": removed,
        f"{place.minhash}{name}.parquet": pa.table(minhash).cast(MINHASH),
    }
    return Part(files, _counts(documents, removed))


def _removed(rows: pa.Table, decision: pa.Table, cfg: DedupConfig, night: str) -> pa.Table:
    """Return CLEANED rows as REMOVED rows."""
    similarity = decision["jaccard"].to_pylist()
    value = ["shares a band key" if value is None else f"{value:.6f}" for value in similarity]
    threshold = f"{cfg.threshold:g}" if cfg.verify else f"{cfg.bands} bands of {cfg.rows} rows"
    columns = {name: rows[name] for name in rows.column_names} | {
        "night": pa.repeat(night, len(value)),
        "stage": pa.repeat("dedup", len(value)),
        "rule": pc.if_else(decision["exact"], "exact-duplicate", "near-duplicate"),
        "value": pa.array(value, pa.string()),
        "threshold": pa.repeat(threshold, len(value)),
        "duplicate_of": decision["duplicate_of"],
        "jaccard": decision["jaccard"],
    }
    return pa.table([columns[field.name].cast(field.type) for field in REMOVED], schema=REMOVED)


def _counts(documents: pa.Table, removed: pa.Table) -> Counts:
    """Count the kept documents by source and by language, the removed ones by source and rule."""
    counts: list[Counts] = []
    for row in documents.group_by("source").aggregate([([], "count_all"), ("n_bytes", "sum")]).to_pylist():
        counts.append({"kept": {row["source"]: row["count_all"]}, "kept_bytes": {row["source"]: row["n_bytes_sum"]}})
    for row in documents.group_by("lang").aggregate([([], "count_all")]).to_pylist():
        counts.append({"kept_languages": {row["lang"]: row["count_all"]}})
    for row in removed.group_by(["source", "rule"]).aggregate([([], "count_all")]).to_pylist():
        counts.append({"removed": {row["source"]: {row["rule"]: row["count_all"]}}})
    return add_counts(counts)
