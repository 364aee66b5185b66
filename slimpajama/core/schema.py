"""Columns of every Parquet file that stages and users meet on; the contract in code."""

from __future__ import annotations

import pyarrow as pa

RAW = pa.schema(
    [
        # 32 hex digits of (source name, place in the source, text).
        ("id", pa.string()),
        ("source", pa.string()),
        # File as matched by the source's pattern, then `#` and the record's place in it.
        ("uri", pa.string()),
        # Of the text's UTF-8 as it was read.
        ("sha256", pa.string()),
        ("text", pa.large_string()),
    ]
)

QUALITY = pa.struct(
    [
        # Characters that are neither punctuation, symbol nor white space.
        ("content_chars", pa.int64()),
        ("han_share", pa.float32()),  # of the content characters
        # Shares of the text by language, from the identifier.
        ("lang_zh", pa.float32()),
        ("lang_en", pa.float32()),
        ("lang_reliable", pa.bool_()),
        # Runs of letters and digits; two ideographs count as one.
        ("words", pa.float32()),
        # Characters a word; of the runs alone where ideographs are less than half.
        ("word_length", pa.float32()),
        # Number signs or ellipses, whichever are more.
        ("symbols_per_word", pa.float32()),
        # Of the runs and ideographs, and of symbols that stand alone.
        ("alphabetic", pa.float32()),
        # Different ones, of both languages.
        ("stop_words", pa.int64()),
        ("curly_brackets", pa.int64()),
        ("lorem_ipsum", pa.int64()),
        # Characters a line that is not empty, as everything on lines below.
        ("line_length", pa.float32()),
        ("lines_per_word", pa.float32()),  # line breaks
        *((f"{kind}_lines", pa.float32()) for kind in ("bullet", "ellipsis", "punctuated", "short", "javascript")),
        *((f"dup_{part}", pa.float32()) for part in ("lines", "line_chars", "paragraphs", "paragraph_chars")),
        # Characters in the most frequent one.
        *((f"top_{n}gram", pa.float32()) for n in (2, 3, 4)),
        # Characters in those that occurred before.
        *((f"dup_{n}gram", pa.float32()) for n in range(5, 11)),
    ]
)

CLEANED = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),  # normalised
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

DOCUMENTS = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),
        ("lang", pa.string()),
        ("source", pa.string()),
        ("uri", pa.string()),
        ("sha256", pa.string()),
        ("n_chars", pa.int64()),
        ("n_bytes", pa.int64()),
        ("night", pa.string()),
        ("quality", QUALITY),
    ]
)

REMOVED = pa.schema(
    [
        ("id", pa.string()),
        ("source", pa.string()),
        ("uri", pa.string()),
        ("lang", pa.string()),
        ("sha256", pa.string()),
        ("n_chars", pa.int64()),
        ("night", pa.string()),
        # ingest, clean, dedup or decontaminate.
        ("stage", pa.string()),
        ("rule", pa.string()),
        # What was measured or seen.
        ("value", pa.string()),
        ("threshold", pa.string()),
        # Id of the kept document.
        ("duplicate_of", pa.string()),
        ("jaccard", pa.float64()),  # exact similarity to it
        ("text", pa.large_string()),
    ]
)

MINHASH = pa.schema(
    [
        ("id", pa.string()),
        # 128-bit hash of the normalised text.
        ("content", pa.binary(16)),
        # Smallest id of the connected component, over all nights.
        ("cluster", pa.string()),
        ("kept", pa.bool_()),
    ]
)

WORDS = pa.schema(
    [
        ("id", pa.string()),
        # A byte a word, in order: how many bytes of the document's text are the word.
        ("lengths", pa.binary()),
    ]
)

PAIRS = pa.schema(
    [
        # 32 hex digits of (source name, place in the source, all texts).
        ("id", pa.string()),
        # summarization, translation or question-answering.
        ("task", pa.string()),
        # Name of the source in the configuration.
        ("set", pa.string()),
        ("uri", pa.string()),
        ("both_ways", pa.bool_()),
        ("source_lang", pa.string()),
        ("target_lang", pa.string()),
        # What stays in one split.
        ("group", pa.string()),
        ("source", pa.large_string()),
        ("question", pa.large_string()),  # empty but for question-answering
        # Each is right; the first is what is learnt.
        ("targets", pa.list_(pa.large_string())),
    ]
)


def dense_list(kind: pa.DataType) -> pa.ListType:
    """Return the type of lists that hold no null, which Parquet need not note of each item."""
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
        # A character a token of input_ids: 1 where it is part of a content word, else 0.
        "content_mask": pa.string(),
        "n_bytes": pa.int64(),
    }.items()
)


def removed_table(rows: list[dict[str, object]]) -> pa.Table:
    """Return records for `removed`; keys that a row lacks become null."""
    return pa.Table.from_pylist([{name: row.get(name) for name in REMOVED.names} for row in rows], schema=REMOVED)
