"""The stage between raw text and deduplication: ingest's parts in, cleaned parts and `removed/clean-*.parquet` out.

Each part is one unit of work and keeps its name and the order of its rows.
"""

from __future__ import annotations

import importlib.metadata
import unicodedata
from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import CleanConfig, Config
from slimpajama.core.progress import track
from slimpajama.core.schema import CLEANED, REMOVED
from slimpajama.corpus.clean.quality import measure
from slimpajama.corpus.clean.rewrite import rewrite
from slimpajama.corpus.clean.rules import bounds, first_verdicts
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Counts, Manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.stage import Part, Stage


def clean(workspace: Workspace, cfg: Config, night: str, raw: Manifest) -> Manifest:
    """Normalise tonight's raw documents, tell their language and remove what the rules refuse.

    Args:
        workspace: The workspace.
        cfg: `clean` is used.
        night: The night the documents belong to.
        raw: Manifest of the ingest.

    Returns:
        The stage's manifest. Files: `NAME.parquet` (schema CLEANED) in the work folder and
        `removed/clean-NAME.parquet`. Counts: `documents` and `bytes` by source, `languages` (documents) and
        `language_bytes` by language, `removed` by source and rule, `masked` (items of personal data) by kind.

    Raises:
        ConfigError: If `clean.thresholds` names no rule.
    """
    about = {
        "version": 3,
        "settings": cfg.clean,
        "rules": {rule.name: {"other": other, "han": han} for rule, other, han in bounds(cfg.clean)},
        # Tells the scripts apart, and converts.
        "opencc": importlib.metadata.version("opencc"),
        "cld2": importlib.metadata.version("pycld2"),
        # Python's tables decide categories and NFC.
        "unicode": unicodedata.unidata_version,
        "raw": raw.digest,
    }
    stage = Stage(workspace.store, "clean", work=layout.night(night).work("clean"), about=about)
    if stage.finished:
        return stage.result
    parts = raw.paths(f"{layout.night(night).work('ingest')}/")
    units = [(path.rsplit("/", 1)[1].removesuffix(".parquet"), path) for path in parts]
    total = sum(raw.counts.get("bytes", {}).values())

    def make(path: str) -> Part:
        name = path.rsplit("/", 1)[1]
        kept, removed, counts = _split(read_table(workspace.store, path), cfg.clean, night)
        return Part({f"{stage.work}/{name}": kept, f"nights/{night}/removed/clean-{name}": removed}, counts)

    with track("clean", total=total, unit="B") as bar:
        stage.map(units, make, cfg.run.threads(), lambda _: bar.advance(total / len(units)))
    return stage.finish()


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
