"""The step between raw text and deduplication: ingest's parts in, cleaned parts and `removed/clean-*.parquet` out.

Each part is one unit of work and keeps its name and the order of its rows.
"""

from __future__ import annotations

import importlib.metadata
import unicodedata
from collections import Counter, defaultdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import CleanConfig
from slimpajama.core.schema import CLEANED, REMOVED
from slimpajama.corpus.clean.quality import measure
from slimpajama.corpus.clean.rewrite import rewrite
from slimpajama.corpus.clean.rules import bounds, first_verdicts
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Counts
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.step import Part, Run, Step


def _inputs(run: Run) -> dict[str, Any]:
    cfg = run.cfg.clean
    return {
        "settings": cfg,
        "rules": {rule.name: {"other": other, "han": han} for rule, other, han in bounds(cfg)},
        # It tells the scripts apart, and converts.
        "opencc": importlib.metadata.version("opencc"),
        "cld2": importlib.metadata.version("pycld2"),
        # Python's tables decide categories and NFC.
        "unicode": unicodedata.unidata_version,
    }


def _clean(run: Run) -> None:
    raw, night = run.made["ingest"], layout.night(run.night)
    paths = raw.paths(f"{night.work('ingest')}/")

    def make(path: str) -> Part:
        name = layout.name_of(path)
        kept, removed, counts = _split(read_table(run.store, path), run.cfg.clean, run.night)
        return Part({f"{run.work}/{name}": kept, f"{night.removed}clean-{name}": removed}, counts)

    total = sum(raw.counts.get("bytes", {}).values())
    run.map([(layout.stem(path), path) for path in paths], make, total=total, unit="B")


CLEAN = Step("clean", 3, _inputs, _clean, needs={"raw": "ingest"}, grows_with="text", folders="work/ingest")
"""Normalise the night's raw documents, tell their language and remove what the rules refuse.

Files: `NAME.parquet` (schema CLEANED) in the work folder and `removed/clean-NAME.parquet`. Counts: `documents` and
`bytes` by source, `languages` (documents) and `language_bytes` by language, `removed` by source and rule, `masked`
(items of personal data) by kind. Raises ConfigError if `clean.thresholds` names no rule.
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
        "quality": quality,
    }
    cleaned = pa.table([columns[name] for name in CLEANED.names], schema=CLEANED)
    stays = np.ones(len(cleaned), np.bool_)
    stays[list(verdicts)] = False
    kept, removed = cleaned.filter(pa.array(stays)), cleaned.filter(pa.array(~stays))
    why = {name: [getattr(verdict, name) for verdict in verdicts.values()] for name in ("rule", "value", "threshold")}
    said = why | {"night": [night] * len(removed), "stage": ["clean"] * len(removed)}
    empty = pa.nulls(len(removed))
    columns = {name: removed[name] for name in CLEANED.names} | {name: pa.array(said[name]) for name in said}
    refused = pa.table([columns.get(name, empty) for name in REMOVED.names], REMOVED.names).cast(REMOVED)
    rules: dict[str, Counter[str]] = defaultdict(Counter)
    for source, rule in zip(removed["source"].to_pylist(), why["rule"], strict=True):
        rules[source][rule] += 1
    documents, sizes = _sums(kept, "source")
    languages, language_bytes = _sums(kept, "lang")
    counts = {"documents": documents, "bytes": sizes, "languages": languages, "language_bytes": language_bytes}
    return kept, refused, {**counts, "removed": rules, "masked": masked}


def _sums(table: pa.Table, by: str) -> tuple[dict[str, int], dict[str, int]]:
    """Return documents and bytes by the values of a column."""
    rows = table.group_by(by).aggregate([("n_bytes", "count"), ("n_bytes", "sum")]).to_pylist()
    return {row[by]: row["n_bytes_count"] for row in rows}, {row[by]: row["n_bytes_sum"] for row in rows}
