"""How many documents and bytes each stage left: of this night by source and language, of earlier nights in all."""

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from slimpajama.core.schema import sums
from slimpajama.workspace.manifest import add_counts, total

# Documents before ingest, and after ingest, clean and dedup; after decontaminate and without what has too little left.
LEVELS = ("found", "readable", "clean", "unique", "kept")
KEPT = ["source", "lang", "n_chars", "n_bytes"]
Counts = Mapping[str, Any]
Row = dict[str, Any]


def night_funnel(
    counts: Counts, kept: pa.Table, cleaned_out: Mapping[str, int], taken_out: Mapping[str, int]
) -> dict[str, Any]:
    """Return the night's funnel.

    Args:
        kept: Columns `KEPT` of each document the night kept.
        cleaned_out: Documents that the clean stage removed, by language.
        taken_out: Documents that decontamination removed, or that were too short without passages, by language.

    Returns:
        `levels` (`name`, `documents`, `bytes`; null bytes where there is no text yet), and `sources` and `languages`
        (`name`, `documents`, one a level, null where it is not known, and `kept_bytes`).
    """
    by_source, source_bytes = sums(kept, "source")
    by_language, language_bytes = sums(kept, "lang")
    clean = counts.get("clean", {})
    cleaned, sizes = clean.get("languages", {}), clean.get("bytes", 0)
    languages = [add_counts([cleaned, cleaned_out]), cleaned, add_counts([by_language, taken_out]), by_language]
    left, refused = total(source_bytes), total(counts.get("decontaminate", {}).get("bytes", 0))
    refused += counts.get("passages", {}).get("taken", 0)
    levels = zip(
        LEVELS,
        _documents(counts),
        [None, total(counts["ingest"].get("bytes", 0)), total(sizes), left + refused, left],
        strict=True,
    )
    return {
        "levels": [{"name": name, "documents": number, "bytes": size} for name, number, size in levels],
        "sources": _rows([], _by_source(counts, by_source), source_bytes),
        "languages": sorted(_rows([None], languages, language_bytes), key=lambda row: -row["documents"][1]),
    }


def _by_source(counts: Counts, kept: Counts) -> list[Counts]:
    """Return the documents of each level by source."""
    read = counts["ingest"].get("documents", {})
    broken, contaminated, short = (
        {source: total(rules) for source, rules in counts.get(stage, {}).get("removed", {}).items()}
        for stage in ("ingest", "decontaminate", "passages")
    )
    cleaned = counts.get("clean", {}).get("documents", {})
    return [add_counts([read, broken]), read, cleaned, add_counts([kept, contaminated, short]), kept]


def _documents(counts: Counts) -> list[int]:
    """Return the documents of each level in all, from a manifest alone."""
    return list(map(total, _by_source(counts, counts.get("dedup", {}).get("kept", {}))))


def _rows(unknown: list[None], levels: list[Counts], kept_bytes: Counts) -> list[Row]:
    """Return a row a name of the first of the `levels`; how many there were before these is not known."""
    return [
        {
            "name": name,
            "documents": [*unknown, *(level.get(name, 0) for level in levels)],
            "kept_bytes": kept_bytes.get(name, 0),
        }
        for name in sorted(levels[0])
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
