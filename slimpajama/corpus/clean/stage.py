"""The step between raw text and deduplication: ingest's parts in, cleaned parts and `removed/clean-*.parquet` out.

Each part is one unit of work and keeps its name and the order of its rows.
"""

import importlib.metadata
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import CleanConfig
from slimpajama.core.schema import CLEANED, QUALITY, refusals, removed_rows, sums
from slimpajama.corpus.clean.normalise import mask_versions, rewrite, table_versions
from slimpajama.corpus.clean.quality import measure
from slimpajama.corpus.clean.rules import bounds, first_verdicts
from slimpajama.corpus.losses import tell_losses
from slimpajama.corpus.refused import by_file, file_of
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Counts, FileEntry
from slimpajama.workspace.nights import corpus_settings
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.step import Part, Run, Step


def _inputs(run: Run) -> dict[str, Any]:
    cfg = run.cfg.clean
    return {
        "settings": corpus_settings(run.cfg)["clean"],
        "rules": {rule.name: {"other": other, "han": han} for rule, other, han in bounds(cfg)},
        "cld2": importlib.metadata.version("pycld2"),
        **table_versions(),
        **mask_versions(cfg),
    }


def _clean(run: Run) -> None:
    raw, night = run.made["ingest"], layout.night(run.night)
    entries = raw.entries(f"{night.work('ingest')}/")

    paths = {entry["path"] for entry in raw.depends_on.get("inputs", ())}

    def make(entry: FileEntry) -> Part:
        name = layout.name_of(entry.path)
        kept, removed, counts = _split(read_table(run.store, entry), run.cfg.clean, run.night)
        rows = removed.select(["source", "uri", "rule"]).to_pylist()
        counts["refused"] = by_file((row["source"], file_of(row["uri"], paths), row["rule"]) for row in rows)
        return Part({f"{run.work}/{name}": kept, f"{night.removed}clean-{name}": removed}, counts)

    total = sum(raw.counts.get("bytes", {}).values())
    run.map([(layout.stem(entry.path), entry) for entry in entries], make, total=total, unit="B")


def _tell_losses(run: Run) -> None:
    tell_losses(run.store, run.night, run.result, run.made["ingest"].counts.get("documents", {}))


CLEAN = Step(
    "clean", 5, _inputs, _clean, needs={"raw": "ingest"}, tidy=_tell_losses, grows_with="text", folders="work/ingest"
)
"""Normalise the night's raw documents, tell their language and remove what the rules refuse.

Files: `NAME.parquet` (schema CLEANED) in the work folder and `removed/clean-NAME.parquet`. Counts: `documents` and
`bytes` by source, `languages` (documents) and `language_bytes` by language, `removed` by source and rule, `refused` by
source, file and rule, `masked` (items of personal data) by kind. Raises ConfigError if `clean.thresholds` names no
rule.
"""


def _split(table: pa.Table, cfg: CleanConfig, night: str) -> tuple[pa.Table, pa.Table, Counts]:
    """Return the CLEANED rows, the REMOVED rows and the counts of RAW rows."""
    texts, masked = rewrite(table["text"].combine_chunks(), cfg)
    langs, n_chars, quality = measure(texts)
    verdicts = first_verdicts(quality, langs, cfg)
    columns = {name: table[name] for name in ("id", "source", "uri", "sha256")} | {
        "text": texts,
        "lang": pa.array(langs, pa.string()),
        "n_chars": pa.array(n_chars),
        "n_bytes": pc.binary_length(texts),
        "quality": quality.cast(QUALITY),
    }
    cleaned = pa.table([columns[name] for name in CLEANED.names], schema=CLEANED)
    stays = np.ones(len(cleaned), np.bool_)
    stays[list(verdicts)] = False
    kept = cleaned.filter(pa.array(stays))
    names = ("rule", "value", "threshold")
    why = {name: pa.array([getattr(verdict, name) for verdict in verdicts.values()], pa.string()) for name in names}
    removed = removed_rows(cleaned.filter(pa.array(~stays)), night, "clean", why)
    documents, sizes = sums(kept, "source")
    languages, language_bytes = sums(kept, "lang")
    counts = {"documents": documents, "bytes": sizes, "languages": languages, "language_bytes": language_bytes}
    return kept, removed, {**counts, "removed": refusals(removed), "masked": masked}
