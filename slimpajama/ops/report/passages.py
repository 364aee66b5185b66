"""The passages of a night that stand in many documents: how many there are, and the most frequent ones."""

from collections.abc import Mapping
from typing import Any

import polars as pl

from slimpajama.core.format import excerpt, number, share, size
from slimpajama.core.page import Block, Column, Folded, Quote, Quotes, Section, Span, Table, columns
from slimpajama.core.schema import PASSAGES
from slimpajama.workspace.lookup import find_rows, one_of
from slimpajama.workspace.manifest import FileEntry, Manifest, total
from slimpajama.workspace.parquet import read_columns
from slimpajama.workspace.store import Store

SHOWN = 12
# Characters of an excerpt.
EXCERPT = 400
LIGHT = ["id", "key", "documents", "cut"]
QUOTED = ["id", "key", "source", "lang", "text"]
Row = dict[str, Any]


def repeated_passages(store: Store, entries: list[FileEntry], manifest: Manifest) -> Row | None:
    """Return what stands in many documents; None for a night of an earlier version, which did not look for it.

    Args:
        entries: The night's `passages` files.
        manifest: The night's own.

    Returns:
        `tokens` and `least` (from which length and in how many documents a passage counts), `passages`, `cut` (of
        them), `taken` (bytes that were cut out or removed), `documents` and `bytes` (with passages), `sources` (`name`,
        `passages`, `documents`, `bytes`), and `most`, those in the most documents: `documents`, `here` (times in this
        night), `cut` (of these), `id` (of one that has it), `source`, `lang`, `excerpt`.
    """
    made = manifest.depends_on["stages"].get("passages")
    if made is None:
        return None
    counts = manifest.counts["passages"]
    grouped = (
        pl.DataFrame(read_columns(store, entries, PASSAGES, LIGHT))
        .group_by("key")
        .agg(pl.max("documents"), pl.min("id"), here=pl.len(), cut=pl.sum("cut").cast(pl.Int64))
    )
    most = grouped.sort("documents", "here", "key", descending=[True, True, False]).head(SHOWN).to_dicts()
    hits = find_rows(store, entries, "id", one_of({row["id"] for row in most}), QUOTED)
    texts = {(hit.values["id"], hit.values["key"]): hit.values for hit in hits}
    return {
        "tokens": made["windows"]["tokens"],
        "least": made["documents"],
        "passages": total(counts["passages"]),
        "cut": grouped["cut"].sum(),
        "taken": counts["taken"],
        "documents": total(counts["documents"]),
        "bytes": total(counts["bytes"]),
        "sources": [
            {"name": name} | {of: counts[of][name] for of in ("passages", "documents", "bytes")}
            for name in sorted(counts["passages"])
        ],
        "most": [_shown(row, texts[row["id"], row["key"]]) for row in most],
    }


def _shown(row: Row, found: Row) -> Row:
    shown = {name: row[name] for name in ("documents", "here", "cut", "id")}
    return shown | {"source": found["source"], "lang": found["lang"], "excerpt": excerpt(found["text"], EXCERPT)}


def passages(report: Mapping[str, Any]) -> Section:
    """Return what stands word for word in many documents."""
    found, text = report["passages"], max(1, report["funnel"]["levels"][3]["bytes"])
    if not found:
        return Section("Repeated passages", [])
    note = (
        f"Passages of {number(found['tokens'])} tokens or more (words or ideographs), in whole sentences or lines, that"
        f" stand word for word in {number(found['least'])} documents or more, of this night and earlier ones."
    )
    if not found["passages"]:
        return Section("Repeated passages", ["There are none."], "passages", note)
    summary = (
        f"{number(found['passages'])} in {number(found['documents'])} documents, {size(found['bytes'])}, that is"
        f" {share(found['bytes'] / text, 1)} of the text. {number(found['cut'])} of them were cut out, and"
        f" {size(found['taken'])} of text went by it."
    )
    sources = Table(
        found["sources"],
        [Column("source", "name"), *columns("passages", "documents", show=number), Column("text", "bytes", size)],
    )
    quotes = [Quotes([_quote(row)], f"in {number(row['documents'])} documents") for row in found["most"]]
    blocks: list[Block] = [summary, sources, Folded("In the most documents", quotes)]
    return Section("Repeated passages", blocks, "passages", note)


def _quote(row: Row) -> Quote:
    note = f"{number(row['here'])} times in this night, {number(row['cut'])} of them cut out"
    return Quote([Span(row["excerpt"])], "", f"{row['id'][:12]} · {row['source']}", note, row["lang"])
