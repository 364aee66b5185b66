"""What was removed in a night and why: the rules with samples, and near-duplicates side by side.

Nothing here reads a whole column of text: rows to show are chosen by their ids and similarities first.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.format import SPACE, excerpt
from slimpajama.workspace.lookup import find_rows, one_of
from slimpajama.workspace.manifest import FileEntry
from slimpajama.workspace.store import Store

SAMPLES = 3
PAIRS, EXACT_PAIRS = 8, 2
LIGHT = ["id", "lang", "stage", "rule", "threshold", "duplicate_of", "jaccard"]
SHOWN = ["id", "source", "uri", "lang", "night", "value", "threshold", "text"]
EXACT = "exact-duplicate"
# So much of each document is compared: a difference after that is not worth the seconds.
COMPARED_CHARS = 200_000
# Characters of an excerpt ahead of the difference, and from there on.
BEFORE, AFTER = 48, 152
CUT = {"text": "…", "differs": False}
CUT_SHORT = {("insert", True), ("delete", True)}
Row = dict[str, Any]


def languages_of(index: pa.Table, stage: str) -> dict[str, int]:
    """Return how many documents of each language a stage removed."""
    kinds = pc.value_counts(index.filter(pc.equal(index["stage"], stage))["lang"])
    return {row["values"]: row["counts"] for row in kinds.to_pylist() if row["values"]}


def rule_table(store: Store, removed: list[FileEntry], index: pa.Table) -> list[dict[str, Any]]:
    """Return each rule that removed something, the busiest first, with a few samples.

    Samples are the documents with the smallest ids; ids are hashes, so this is a fair draw and always the same one.

    Args:
        removed: The night's `removed` files.
        index: Columns `LIGHT` of them.

    Returns:
        `stage`, `rule`, `threshold` (empty where it differs), `documents` and `samples` (`id`, `source`, `uri`,
        `lang`, `value`, `threshold`, `excerpt`).
    """
    lowest, highest = pl.min("threshold"), pl.max("threshold")
    grouped = (
        pl.DataFrame(index)
        .group_by("stage", "rule")
        .agg(
            threshold=pl.when(lowest.eq_missing(highest)).then(lowest).otherwise(pl.lit("")),
            documents=pl.count("id"),
            samples=pl.col("id").sort().head(SAMPLES).unique(maintain_order=True),
        )
    )
    rules = grouped.sort("documents", "stage", "rule", descending=[True, False, False]).to_dicts()
    rows = _rows_by_id(store, removed, {id_ for rule in rules for id_ in rule["samples"]}, [*SHOWN, "stage", "rule"])
    return [rule | {"samples": [_sample(rows[rule["stage"], id_]) for id_ in rule["samples"]]} for rule in rules]


def _sample(row: Row) -> Row:
    shown = {name: row[name] or "" for name in ("id", "source", "uri", "lang", "value", "threshold")}
    return shown | {"excerpt": excerpt(row["text"])}


def duplicate_pairs(
    store: Store, removed: list[FileEntry], index: pa.Table, documents: Mapping[str, list[FileEntry]]
) -> dict[str, Any]:
    """Return how many documents were removed as duplicates, and a few pairs that show the range of similarity.

    Args:
        removed: The night's `removed` files.
        index: Columns `LIGHT` of them.
        documents: Files of kept documents by night, in the order in which partners are looked for.

    Returns:
        `documents`, `exact` (of them) and `pairs`: `jaccard`, `rule` and for `kept` and `removed` each `id`, `night`,
        `source`, `uri`, `lang`, `segments`. A kept document that is gone has no segments.
    """
    index = index.filter(pc.is_valid(index["duplicate_of"]))
    exact = pc.equal(index["rule"], EXACT)
    chosen = [*_spread(index.filter(pc.invert(exact)), PAIRS)]
    chosen += _spread(index.filter(exact), min(EXACT_PAIRS, PAIRS - len(chosen)))
    rows = _rows_by_id(store, removed, {row["id"] for row in chosen}, [*SHOWN, "stage"])
    partners = _partners(store, documents, {row["duplicate_of"] for row in chosen})
    pairs = [_pair(row, rows["dedup", row["id"]], partners.get(row["duplicate_of"])) for row in chosen]
    return {"documents": index.num_rows, "exact": pc.sum(exact).as_py() or 0, "pairs": pairs}


def _spread(index: pa.Table, count: int) -> list[Row]:
    """Return at most `count` rows evenly over the similarities, the least similar first."""
    rows = index.sort_by([("jaccard", "ascending"), ("id", "ascending")])
    last = rows.num_rows - 1
    places = sorted({round(number * last / max(1, count - 1)) for number in range(min(count, rows.num_rows))})
    return list(rows.take(places).to_pylist()) if places else []


def _partners(store: Store, documents: Mapping[str, list[FileEntry]], ids: set[str]) -> dict[str, Row]:
    found: dict[str, Row] = {}
    for night, entries in documents.items():
        missing = ids - found.keys()
        if not missing:
            break
        for hit in find_rows(store, entries, "id", one_of(missing), ["id", "source", "uri", "lang", "text"]):
            found[hit.values["id"]] = hit.values | {"night": night}
    return found


def _pair(row: Row, removed: Row, kept: Row | None) -> Row:
    known = kept or {"id": row["duplicate_of"]}
    left, right = around_first_difference(known.get("text") or removed["text"], removed["text"])

    def side(document: Row, segments: list[Row]) -> Row:
        shown = {name: document.get(name) or "" for name in ("id", "night", "source", "uri", "lang")}
        return shown | {"segments": segments}

    return {
        "jaccard": row["jaccard"],
        "rule": row["rule"],
        "kept": side(known, left if kept else []),
        "removed": side(removed, right),
    }


def _rows_by_id(
    store: Store, entries: Iterable[FileEntry], ids: Collection[str], columns: list[str]
) -> dict[tuple[str, str], Row]:
    """Return rows of `removed` by stage and id."""
    hits = find_rows(store, entries, "id", one_of(ids), columns) if ids else ()
    return {(hit.values["stage"], hit.values["id"]): hit.values for hit in hits}


def around_first_difference(left: str, right: str) -> tuple[list[Row], list[Row]]:
    """Return one excerpt of each text, around the place where they first part, in segments: `text` and `differs`.

    Runs of white space count as one blank, as they do in deduplication. A segment differs where the other document has
    something else, or nothing.
    """
    left, right = (SPACE.sub(" ", text[:COMPARED_CHARS]).strip() for text in (left, right))
    differing = (place for place, (a, b) in enumerate(zip(left, right, strict=False)) if a != b)
    parting = 0 if left == right else next(differing, min(len(left), len(right)))
    start = max(0, parting - BEFORE)
    cut_left, cut_right = left[start : parting + AFTER], right[start : parting + AFTER]
    steps = difflib.SequenceMatcher(None, cut_left, cut_right, autojunk=False).get_opcodes()
    if steps and (steps[-1][0], len(left if steps[-1][0] == "insert" else right) > parting + AFTER) in CUT_SHORT:
        # Here the excerpt ends, but not the document.
        steps.pop()
    sides: tuple[list[Row], list[Row]] = ([], [])
    for tag, l0, l1, r0, r1 in steps:
        for side, piece in ((sides[0], cut_left[l0:l1]), (sides[1], cut_right[r0:r1])):
            if piece:
                side.append({"text": piece, "differs": tag != "equal"})
    for side, whole in ((sides[0], left), (sides[1], right)):
        if start:
            side.insert(0, CUT)
        if parting + AFTER < len(whole):
            side.append(CUT)
    return sides
