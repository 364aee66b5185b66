"""How many documents and bytes each stage left: of this night by source and language, of earlier nights in all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.schema import sums
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import Manifest, total
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.store import Store

# Documents before ingest, and after ingest, clean, dedup and decontaminate.
LEVELS = ("found", "readable", "clean", "unique", "kept")
KEPT = ["source", "lang", "n_chars", "n_bytes"]
Counts = Mapping[str, Any]
Row = dict[str, Any]


def kept_documents(store: Store, night: str, manifest: Manifest) -> pa.Table:
    """Return `source`, `lang`, `n_chars` and `n_bytes` of each document the night kept."""
    tables = [read_table(store, path, KEPT) for path in manifest.paths(layout.night(night).documents)]
    schema = pa.schema([(name, pa.string() if name in ("source", "lang") else pa.int64()) for name in KEPT])
    return pa.concat_tables(tables) if tables else schema.empty_table()


def night_funnel(
    counts: Counts, kept: pa.Table, cleaned_out: Mapping[str, int], contaminated: Mapping[str, int]
) -> dict[str, Any]:
    """Return the night's funnel.

    Args:
        counts: The night manifest's counts, by stage.
        kept: What `kept_documents` returns.
        cleaned_out: Documents that the clean stage removed, by language.
        contaminated: Documents that the decontamination removed, by language.

    Returns:
        `levels` (`name`, `documents`, `bytes`; null bytes where there is no text yet), and `sources` and `languages`
        (`name`, `documents`, one a level, null where it is not known, and `kept_bytes`).
    """
    ingest, clean = counts["ingest"], counts.get("clean", {})
    read, cleaned = ingest.get("documents", {}), clean.get("documents", {})
    by_source, source_bytes = sums(kept, "source")
    refused = {source: total(rules) for source, rules in counts.get("decontaminate", {}).get("removed", {}).items()}
    broken = {source: total(rules) for source, rules in ingest.get("removed", {}).items()}
    languages, language_bytes = sums(kept, "lang")
    clean_languages = clean.get("languages", {})
    sources = [
        _row(name, [n + broken.get(name, 0), n, cleaned.get(name, 0)], refused, by_source, source_bytes)
        for name, n in ((name, read.get(name, 0)) for name in sorted({*read, *broken}))
    ]
    by_language = [
        _row(name, [None, n + cleaned_out.get(name, 0), n], contaminated, languages, language_bytes)
        for name, n in ((name, clean_languages.get(name, 0)) for name in sorted({*clean_languages, *cleaned_out}))
    ]
    return {
        "levels": _levels(counts, kept),
        "sources": sources,
        "languages": sorted(by_language, key=lambda row: -row["documents"][1]),
    }


def _row(name: str, before: list[int | None], refused: Counts, kept: Counts, kept_bytes: Counts) -> Row:
    left = kept.get(name, 0)
    documents = [*before, left + refused.get(name, 0), left]
    return {"name": name, "documents": documents, "kept_bytes": kept_bytes.get(name, 0)}


def _levels(counts: Counts, kept: pa.Table) -> list[Row]:
    ingest, clean = counts["ingest"], counts.get("clean", {})
    documents = _documents(counts)
    left = pc.sum(kept["n_bytes"]).as_py() or 0
    refused = total(counts.get("decontaminate", {}).get("bytes", 0))
    sizes = [None, total(ingest.get("bytes", 0)), total(clean.get("bytes", 0)), left + refused, left]
    return [
        {"name": name, "documents": number, "bytes": size}
        for name, number, size in zip(LEVELS, documents, sizes, strict=True)
    ]


def _documents(counts: Counts) -> list[int]:
    ingest = counts["ingest"]
    read, kept = total(ingest.get("documents", 0)), total(counts.get("dedup", {}).get("kept", 0))
    return [
        read + total(ingest.get("removed", 0)),
        read,
        total(counts.get("clean", {}).get("documents", 0)),
        kept + total(counts.get("decontaminate", {}).get("removed", 0)),
        kept,
    ]


def history_row(night: str, counts: Counts) -> Row:
    """Return a night's funnel from its manifest alone: `documents` by level, `kept_bytes` and `tokens`."""
    return {
        "night": night,
        "documents": _documents(counts),
        "kept_bytes": total(counts.get("dedup", {}).get("kept_bytes", 0)),
        "tokens": total(counts.get("shards", {}).get("tokens", 0)),
    }


def split_rows(shards: Counts) -> list[Row]:
    """Return the shards' `split`, `lang`, `documents` (of the whole split), `tokens` and `bytes`."""
    rows = []
    for split in ("train", "validation", "test"):
        tokens, sizes = shards.get("tokens", {}).get(split, {}), shards.get("bytes", {}).get(split, {})
        rows += [
            {
                "split": split,
                "lang": lang,
                "documents": shards["documents"][split],
                "tokens": tokens[lang],
                "bytes": sizes.get(lang, 0),
            }
            for lang in sorted(tokens, key=lambda name: (-tokens[name], name))
        ]
    return rows
