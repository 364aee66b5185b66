"""Columns of every Parquet file that steps hand on and users read."""

from typing import Any

import pyarrow as pa

RAW = pa.schema(
    [
        # 32 hex digits: a hash of the source's name, the place in the source, and the text.
        ("id", pa.string()),
        ("source", pa.string()),
        # The file as the source's pattern found it, then `#` and the record's place in the file.
        ("uri", pa.string()),
        # Hash of the text's UTF-8 as it was read.
        ("sha256", pa.string()),
        ("text", pa.large_string()),
    ]
)

QUALITY = pa.struct(
    [
        # Characters that are neither punctuation, symbol nor white space.
        ("content_chars", pa.int64()),
        # Share of the content characters.
        ("han_share", pa.float32()),
        # What the language identifier says: shares of the text.
        ("lang_zh", pa.float32()),
        ("lang_en", pa.float32()),
        ("lang_reliable", pa.bool_()),
        # A word is a run of letters and digits; two ideographs count as one.
        ("words", pa.float32()),
        # Characters in a word; only runs count where ideographs are less than half.
        ("word_length", pa.float32()),
        # Number signs or ellipses: those of which there are more.
        ("symbols_per_word", pa.float32()),
        # Share of runs and ideographs; symbols that stand alone are the rest.
        ("alphabetic", pa.float32()),
        # How many different ones occur, in both languages.
        ("stop_words", pa.int64()),
        ("curly_brackets", pa.int64()),
        ("lorem_ipsum", pa.int64()),
        # Characters in a line. Empty lines never count, here and below.
        ("line_length", pa.float32()),
        # Line breaks, to be exact.
        ("lines_per_word", pa.float32()),
        *((f"{kind}_lines", pa.float32()) for kind in ("bullet", "ellipsis", "punctuated", "short", "javascript")),
        *((f"dup_{part}", pa.float32()) for part in ("lines", "line_chars", "paragraphs", "paragraph_chars")),
        # Share of the characters in the most frequent n-gram.
        *((f"top_{n}gram", pa.float32()) for n in (2, 3, 4)),
        # Share of the characters in n-grams that occurred before.
        *((f"dup_{n}gram", pa.float32()) for n in range(5, 11)),
    ]
)

CLEANED = pa.schema(
    [
        ("id", pa.string()),
        # Normalised.
        ("text", pa.large_string()),
        # zh, zh-Hant, en, mixed, another ISO code, or unknown.
        ("lang", pa.string()),
        ("source", pa.string()),
        ("uri", pa.string()),
        ("sha256", pa.string()),
        ("n_chars", pa.int64()),
        ("n_bytes", pa.int64()),
        ("quality", QUALITY),
    ]
)

DOCUMENTS = CLEANED.insert(CLEANED.get_field_index("quality"), pa.field("night", pa.string()))

REMOVED = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("uri", pa.string()),
        ("lang", pa.string()),
        ("sha256", pa.string()),
        ("n_chars", pa.int64()),
        ("night", pa.string()),
        # ingest, clean, dedup, decontaminate or passages.
        ("stage", pa.string()),
        ("rule", pa.string()),
        # What was measured or seen.
        ("value", pa.string()),
        ("threshold", pa.string()),
        # Id of the kept document.
        ("duplicate_of", pa.string()),
        # Exact similarity to it.
        ("jaccard", pa.float64()),
        ("text", pa.large_string()),
    ]
)

NOTES = pa.schema(
    [
        # Of the document; null where it is said of the whole file.
        ("id", pa.string()),
        ("source", pa.string()),
        # The document's, or the file's.
        ("uri", pa.string()),
        ("rule", pa.string()),
        # What was seen.
        ("value", pa.string()),
        ("threshold", pa.string()),
    ]
)

MINHASH = pa.schema(
    [
        ("id", pa.string()),
        # 128-bit hash of the normalised text.
        ("content", pa.binary(16)),
        # Smallest id in the connected component, over all nights.
        ("cluster", pa.string()),
        ("kept", pa.bool_()),
    ]
)

PASSAGES = pa.schema(
    [
        # The document that has the passage.
        ("id", pa.string()),
        ("source", pa.string()),
        ("lang", pa.string()),
        # Characters of the document as it was cleaned.
        ("begin", pa.int64()),
        ("end", pa.int64()),
        ("n_bytes", pa.int64()),
        # Equal for passages that say the same.
        ("key", pa.uint64()),
        # In which each stretch of it stands, at the least; of this night and earlier ones.
        ("documents", pa.int64()),
        # Whether it was cut out of the document.
        ("cut", pa.bool_()),
        # Another document that has it: the first one, or, of that one's own, the last.
        ("other", pa.string()),
        ("other_night", pa.string()),
        ("text", pa.large_string()),
    ]
)

WORDS = pa.schema(
    [
        ("id", pa.string()),
        # One byte for each word, in order: how many bytes of the document's text the word takes.
        ("lengths", pa.binary()),
    ]
)

PAIRS = pa.schema(
    [
        # 32 hex digits: a hash of the source's name, the place in the source, and all texts.
        ("id", pa.string()),
        # summarization, translation or question-answering.
        ("task", pa.string()),
        # Name of the source in the configuration.
        ("set", pa.string()),
        ("uri", pa.string()),
        ("both_ways", pa.bool_()),
        ("source_lang", pa.string()),
        ("target_lang", pa.string()),
        # Pairs of one group stay in one split.
        ("group", pa.string()),
        ("source", pa.large_string()),
        # Empty except in question answering.
        ("question", pa.large_string()),
        # Each target is right; the model learns the first.
        ("targets", pa.list_(pa.large_string())),
    ]
)


def dense_list(kind: pa.DataType) -> pa.ListType:
    """Return the type of lists that hold no null, so Parquet need not say for each item whether it is one."""
    return pa.list_(pa.field("element", kind, nullable=False))


SHARDS = pa.schema(
    pa.field(name, kind, nullable=False)
    for name, kind in {
        "id": pa.string(),
        "lang": pa.string(),
        "source": pa.string(),
        "words": dense_list(pa.string()),
        "content_words": dense_list(pa.string()),
        "input_ids": dense_list(pa.uint16()),
        # One character for each token of input_ids: 1 if it is part of a content word, else 0.
        "content_mask": pa.string(),
        "n_bytes": pa.int64(),
    }.items()
)


def removed_table(rows: list[dict[str, object]]) -> pa.Table:
    """Return records for `removed`; keys that a row lacks become null."""
    return pa.Table.from_pylist([{name: row.get(name) for name in REMOVED.names} for row in rows], schema=REMOVED)


def removed_rows(rows: pa.Table, night: str, stage: str, why: dict[str, Any]) -> pa.Table:
    """Return documents as REMOVED rows.

    Args:
        rows: What is known of them.
        night: Which refused them.
        stage: Which refused them.
        why: The other columns; one that is in neither is null.
    """
    same = {"night": pa.repeat(night, len(rows)), "stage": pa.repeat(stage, len(rows))}
    columns = {name: rows[name] for name in rows.column_names} | same | why
    return pa.table([columns.get(name, pa.nulls(len(rows))) for name in REMOVED.names], REMOVED.names).cast(REMOVED)


def sums(table: pa.Table, by: str, column: str = "n_bytes") -> tuple[dict[str, int], dict[str, int]]:
    """Return by the values of a column how many documents there are, and the sum of another column of theirs."""
    rows = table.group_by(by).aggregate([(column, "count"), (column, "sum")]).to_pylist()
    return {row[by]: row[f"{column}_count"] for row in rows}, {row[by]: row[f"{column}_sum"] for row in rows}


def refusals(removed: pa.Table) -> dict[str, dict[str, int]]:
    """Return the number of REMOVED or NOTES rows by source and rule."""
    counts: dict[str, dict[str, int]] = {}
    for row in removed.group_by(["source", "rule"]).aggregate([([], "count_all")]).to_pylist():
        counts.setdefault(row["source"], {})[row["rule"]] = row["count_all"]
    return counts
