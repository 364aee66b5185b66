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

import unicodedata
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import DedupConfig
from slimpajama.core.logs import step_log
from slimpajama.core.schema import DOCUMENTS, MINHASH, refusals, removed_rows, sums
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
from slimpajama.corpus.dedup.documents import DocumentFile, Documents
from slimpajama.corpus.dedup.history import of_nights
from slimpajama.corpus.dedup.kernel import VERSION, sketch
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Counts, FileEntry, Manifest, add_counts, load_manifest
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.step import Part, Run, Step


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
    parts = cleaned_parts(run)
    units = [(f"sketch-{name}", name) for name in parts]
    run.map(units, lambda name: _sketch_part(run, name, parts[name]), unit="parts")
    if all(run.has(f"decision-{name}") for name in parts):
        return
    cfg = run.cfg.dedup
    table = ", ".join(f"{jaccard:g}: {caught:.3f}" for jaccard, caught in caught_table(cfg.bands, cfg.rows))
    step_log(run.name).debug(f"chance that a pair of that similarity is compared: {table}")
    documents = Documents.of((_sketched_file(run, name) for name in parts), pa.binary(16))
    history = list(of_nights(run.store, run.once(_earlier), cfg))
    outcome = decide(documents, history, cfg, run.cfg.run.threads())
    for number, (name, part) in enumerate(zip(parts, documents.slices(), strict=True)):
        counts = {"compared": 0 if number else outcome.compared, "removed_for_earlier": outcome.for_earlier(part)}
        run.commit(f"decision-{name}", Part({f"{run.work}/decision-{name}.parquet": outcome.table(part)}, counts))


COMPARE = Step(
    "compare",
    VERSION,
    _compare_inputs,
    _compare,
    needs={"cleaned": "clean"},
    grows_with="cleaned",
    folders="work/clean|minhash|bands|texts",
)
"""Find exact and near-duplicates among the night's documents and among all earlier nights'.

Files: `decision-PART` in the work folder (`kept`, `exact`, `duplicate_of`, `jaccard`, `cluster` of each cleaned row),
`bands/PART` and `texts/PART.arrow` (band keys and texts, see `columns.key_file` and `columns.text_file`). Counts:
`compared` (pairs compared exactly) and `removed_for_earlier` (partner of an earlier night).
"""


def _dedup_inputs(run: Run) -> dict[str, Any]:
    cut = {"passages": run.made["passages"].digest} if run.cfg.dedup.cut_passages else {}
    return _sketching(run.cfg.dedup) | {"edited": _edited(run)} | cut


def _deduplicate(run: Run) -> Counts:
    parts = cleaned_parts(run)

    def make(name: str) -> Part:
        rows = read_table(run.store, parts[name])
        return _write_part(run, name, rows, refused(run, name, rows["id"], "decontaminate", "passages"))

    return add_counts([run.made["compare"].counts, *run.map([(name, name) for name in parts], make, unit="parts")])


DEDUP = Step(
    "dedup",
    VERSION,
    _dedup_inputs,
    _deduplicate,
    needs={"cleaned": "clean", "compared": "compare", "contaminated": "decontaminate"},
    reads=("passages",),
    grows_with="cleaned",
    folders="work/(clean|compare|passages)|removed",
)
"""Write the night's documents: no duplicates, nothing that decontamination refused, no passages that are cut out.

Files: `documents/PART` (DOCUMENTS), `removed/dedup-PART` (REMOVED) and `minhash/PART` (MINHASH, every document that
came in). Counts: those of `compare`, `kept` and `kept_bytes` by source, `kept_languages` by language, `removed` by
source and rule.
"""


def refused(run: Run, name: str, ids: pa.ChunkedArray, *steps: str) -> pa.ChunkedArray:
    """Return which of a part's documents some steps have refused."""
    paths = [f"{layout.night(run.night).removed}{step}-{name}.parquet" for step in steps]
    entries = [entry for step, path in zip(steps, paths, strict=True) for entry in run.made[step].entries(path)]
    found = [read_table(run.store, entry, ["id"])["id"].combine_chunks() for entry in entries]
    return pc.is_in(ids, value_set=pa.concat_arrays([pa.array([], pa.string()), *found]))


def _without_passages(run: Run, name: str, cleaned: pa.Table) -> pa.Table:
    """Return CLEANED rows with those documents replaced that lost a passage."""
    for entry in run.made["passages"].entries(f"{layout.night(run.night).work('passages')}/cut-{name}.parquet"):
        cut = read_table(run.store, entry)
        place = pc.index_in(cleaned["id"], value_set=cut["id"].combine_chunks())
        rows = pc.fill_null(pc.add(place, len(cleaned)), pa.array(np.arange(len(cleaned))))
        return pa.concat_tables([cleaned, cut]).take(rows)
    return cleaned


def _sketching(cfg: DedupConfig) -> dict[str, Any]:
    """Return what later nights tell by whether their keys compare with tonight's."""
    return {
        "version": VERSION,
        "settings": {name: value for name, value in cfg.comparison().items() if name != "memory_mb"},
        # Python's tables decide lower case and white space.
        "unicode": unicodedata.unidata_version,
    }


def cleaned_parts(run: Run) -> dict[str, FileEntry]:
    """Return the cleaned parts by their names."""
    entries = run.made["clean"].entries(f"{layout.night(run.night).work('clean')}/")
    return {layout.stem(entry.path): entry for entry in entries}


def _edited(run: Run) -> dict[str, list[str]]:
    """Return the raw files that an earlier night read in another form, by source."""
    ingested = load_manifest(run.store, f"{layout.night(run.night).work('ingest')}/{layout.MANIFEST}")
    seen = {
        (entry["source"], entry["path"])
        for manifest in run.once(_earlier).values()
        for entry in manifest.depends_on["stages"].get("ingest", {"inputs": ()})["inputs"]
    }
    again: dict[str, list[str]] = {}
    for entry in ingested.depends_on["inputs"] if ingested else ():
        if (entry["source"], entry["path"]) in seen and "again" not in entry:
            again.setdefault(entry["source"], []).append(entry["path"])
    return again


def _sketch_part(run: Run, name: str, entry: FileEntry) -> Part:
    """Return `sketch-PART`, band keys and texts: what the decision needs to know, and the little it looks up."""
    table, night = read_table(run.store, entry, ["id", "text", "source"]), layout.night(run.night)
    texts = large_strings(table["text"])
    sketches = sketch(texts, run.cfg.dedup)
    columns = {
        "id": pack_ids(table["id"].combine_chunks()),
        "source": table["source"].combine_chunks().dictionary_encode(),
        "n_chars": sketches.n_chars,
        "content": content_column(sketches.content),
    }
    return Part(
        {
            f"{run.work}/sketch-{name}.parquet": pa.table(columns),
            night.bands(name): key_file(sketches.content, sketches.keys),
            night.texts(name): text_file(texts),
        }
    )


def _sketched_file(run: Run, name: str) -> DocumentFile:
    """Return what `_sketch_part` has written of a part."""
    night, priorities = layout.night(run.night), _priorities(run)
    files = {entry.path: entry for entry in run.part_files(f"sketch-{name}")}
    table = read_table(run.store, files[f"{run.work}/sketch-{name}.parquet"])
    source = table["source"].combine_chunks()
    ranks = np.array([priorities.get(name, 0) for name in source.dictionary.to_pylist()], np.int32)
    return DocumentFile(
        table["id"].combine_chunks(),
        table["n_chars"].to_numpy(),
        content_array(table["content"]),
        partial(load_keys, run.store, files[night.bands(name)]),
        partial(load_texts, run.store, files[night.texts(name)]),
        ranks[source.indices.to_numpy()],
    )


def _write_part(run: Run, name: str, cleaned: pa.Table, refused: pa.ChunkedArray) -> Part:
    """Return the kept documents, the removed ones and what later nights compare with, of one part."""
    place, compared = layout.night(run.night), run.made["compare"]
    work = place.work("compare")
    content = read_table(run.store, compared.file(f"{work}/sketch-{name}.parquet"), ["content"])["content"]
    decision = read_table(run.store, compared.file(f"{work}/decision-{name}.parquet"))
    duplicate = pc.invert(decision["kept"])
    kept = pc.and_not(decision["kept"], refused)
    documents = _without_passages(run, name, cleaned).filter(kept)
    documents = documents.append_column("night", pa.repeat(run.night, documents.num_rows))
    minhash = {"id": cleaned["id"], "content": content, "cluster": decision["cluster"], "kept": kept}
    removed = _removed(cleaned.filter(duplicate), decision.filter(duplicate), run.cfg.dedup, run.night)
    files = {
        f"{place.documents}{name}.parquet": documents.select(DOCUMENTS.names).cast(DOCUMENTS),
        f"{place.removed}dedup-{name}.parquet": removed,
        f"{place.minhash}{name}.parquet": pa.table(minhash).cast(MINHASH),
    }
    by_source, sizes = sums(documents, "source")
    languages, _ = sums(documents, "lang")
    counts = {"kept": by_source, "kept_bytes": sizes, "kept_languages": languages, "removed": refusals(removed)}
    return Part(files, {name: found for name, found in counts.items() if found})


def _removed(rows: pa.Table, decision: pa.Table, cfg: DedupConfig, night: str) -> pa.Table:
    """Return CLEANED rows as REMOVED rows."""
    similarity = decision["jaccard"].to_pylist()
    value = ["shares a band key" if value is None else f"{value:.6f}" for value in similarity]
    threshold = f"{cfg.threshold:g}" if cfg.verify else f"{cfg.bands} bands of {cfg.rows} rows"
    why = {
        "rule": pc.if_else(decision["exact"], "exact-duplicate", "near-duplicate"),
        "value": pa.array(value, pa.string()),
        "threshold": pa.repeat(threshold, len(value)),
        "duplicate_of": decision["duplicate_of"],
        "jaccard": decision["jaccard"],
    }
    return removed_rows(rows, night, "dedup", why)
