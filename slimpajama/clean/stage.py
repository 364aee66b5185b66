"""The stage between raw text and deduplication: ingest's parts in, cleaned parts and `removed/clean-*.parquet` out.

Each part is one unit of work and keeps its name and the order of its rows.
"""

from __future__ import annotations

import importlib.metadata
import unicodedata
from collections import Counter, defaultdict
from typing import Any

import pyarrow as pa

from slimpajama.clean.characters import count_characters
from slimpajama.clean.language import identify
from slimpajama.clean.normalise import normalise
from slimpajama.clean.rules import first_verdict
from slimpajama.config import CleanConfig, Config
from slimpajama.manifest import Counts, Manifest, Part, Stage
from slimpajama.night import work_folder
from slimpajama.progress import track
from slimpajama.schema import CLEANED, removed_table
from slimpajama.storage import Store, read_table

__all__ = ["clean", "clean_document"]


def clean(store: Store, cfg: Config, night: str, raw: Manifest) -> Manifest:
    """Normalise tonight's raw documents, tell their language and remove what the rules refuse.

    Args:
        store: The workspace.
        cfg: `clean` is used.
        night: The night the documents belong to.
        raw: Manifest of the ingest.

    Returns:
        The stage's manifest. Files: `NAME.parquet` (schema CLEANED) in the work folder and
        `removed/clean-NAME.parquet`. Counts: `documents` and `bytes` by source, `languages` (documents) and
        `language_bytes` by language, `removed` by source and rule.
    """
    about = {
        "version": 1,
        "settings": cfg.clean,
        "cld2": importlib.metadata.version("pycld2"),
        "unicode": unicodedata.unidata_version,  # Python's tables decide categories and NFC
        "raw": raw.digest,
    }
    stage = Stage(store, "clean", work=work_folder(night, "clean"), about=about)
    if stage.finished:
        return stage.result
    parts = raw.paths(f"{work_folder(night, 'ingest')}/")
    units = [(path.rsplit("/", 1)[1].removesuffix(".parquet"), path) for path in parts]

    with track("clean", total=sum(raw.counts.get("bytes", {}).values()), unit="B") as bar:

        def make(path: str) -> Part:
            name = path.rsplit("/", 1)[1]
            table = read_table(store, path)
            kept, removed, counts = _split(table, cfg.clean, night)
            bar.advance(table["text"].nbytes)
            return Part({f"{stage.work}/{name}": kept, f"nights/{night}/removed/clean-{name}": removed}, counts)

        stage.map(units, make, cfg.run.threads())
    return stage.finish()


def clean_document(row: dict[str, Any], cfg: CleanConfig) -> tuple[dict[str, Any], dict[str, str] | None]:
    """Return a RAW row as a CLEANED row, and why it is removed (`rule`, `value`, `threshold`) or None."""
    text = normalise(row["text"], fold_width=cfg.fold_width)
    characters = count_characters(text)
    language = identify(text, characters)
    verdict = first_verdict(characters, language.code, cfg)
    cleaned = {
        "id": row["id"],
        "text": text,
        "lang": language.code,
        "source": row["source"],
        "uri": row["uri"],
        "sha256": row["sha256"],
        "n_chars": len(text),
        "n_bytes": len(text.encode()),
        "quality": {
            "content_chars": characters.content,
            "han_share": characters.han_share,
            "lang_zh": language.zh,
            "lang_en": language.en,
            "lang_reliable": language.reliable,
        },
    }
    reason = {"rule": verdict.rule, "value": verdict.value, "threshold": verdict.threshold} if verdict else None
    return cleaned, reason


def _split(table: pa.Table, cfg: CleanConfig, night: str) -> tuple[pa.Table, pa.Table, Counts]:
    """Return the CLEANED rows, the REMOVED rows and the counts of RAW rows."""
    kept: list[dict[str, Any]] = []
    removed: list[dict[str, object]] = []
    counts = {name: Counter[str]() for name in ("documents", "bytes", "languages", "language_bytes")}
    rules: dict[str, Counter[str]] = defaultdict(Counter)
    for row in table.to_pylist():
        cleaned, reason = clean_document(row, cfg)
        if reason:
            removed.append(cleaned | reason | {"night": night, "stage": "clean"})
            rules[cleaned["source"]][reason["rule"]] += 1
            continue
        kept.append(cleaned)
        counts["documents"][cleaned["source"]] += 1
        counts["bytes"][cleaned["source"]] += cleaned["n_bytes"]
        counts["languages"][cleaned["lang"]] += 1
        counts["language_bytes"][cleaned["lang"]] += cleaned["n_bytes"]
    return pa.Table.from_pylist(kept, schema=CLEANED), removed_table(removed), {**counts, "removed": rules}
