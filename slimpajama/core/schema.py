"""Columns of every Parquet file that stages and users meet on; the contract in code."""

from __future__ import annotations

import pyarrow as pa

RAW = pa.schema(
    [
        ("id", pa.string()),  # 32 hex digits of (source name, place in the source, text)
        ("source", pa.string()),
        ("uri", pa.string()),  # file as matched by the source's pattern, then `#` and the record's place in it
        ("sha256", pa.string()),  # of the text's UTF-8 as it was read
        ("text", pa.large_string()),
    ]
)

QUALITY = pa.struct(
    [
        ("content_chars", pa.int64()),  # characters that are neither punctuation, symbol nor white space
        ("han_share", pa.float32()),  # of the content characters
        ("lang_zh", pa.float32()),  # shares of the text by language, from the identifier
        ("lang_en", pa.float32()),
        ("lang_reliable", pa.bool_()),
        ("words", pa.float32()),  # runs of letters and digits; two ideographs count as one
        ("word_length", pa.float32()),  # characters a word; of the runs alone where ideographs are less than half
        ("symbols_per_word", pa.float32()),  # number signs or ellipses, whichever are more
        ("alphabetic", pa.float32()),  # of the runs and ideographs, and of symbols that stand alone
        ("stop_words", pa.int64()),  # different ones, of both languages
        ("curly_brackets", pa.int64()),
        ("lorem_ipsum", pa.int64()),
        ("line_length", pa.float32()),  # characters a line that is not empty, as everything on lines below
        ("lines_per_word", pa.float32()),  # line breaks
        *((f"{kind}_lines", pa.float32()) for kind in ("bullet", "ellipsis", "punctuated", "short", "javascript")),
        *((f"dup_{part}", pa.float32()) for part in ("lines", "line_chars", "paragraphs", "paragraph_chars")),
        *((f"top_{n}gram", pa.float32()) for n in (2, 3, 4)),  # characters in the most frequent one
        *((f"dup_{n}gram", pa.float32()) for n in range(5, 11)),  # characters in those that occurred before
    ]
)

CLEANED = pa.schema(
    [
        ("id", pa.string()),
        ("text", pa.large_string()),  # normalised
        ("lang", pa.string()),  # zh, zh-Hant, en, mixed, another ISO code, or unknown
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
        ("stage", pa.string()),  # ingest, clean, dedup or decontaminate
        ("rule", pa.string()),
        ("value", pa.string()),  # what was measured or seen
        ("threshold", pa.string()),
        ("duplicate_of", pa.string()),  # id of the kept document
        ("jaccard", pa.float64()),  # exact similarity to it
        ("text", pa.large_string()),
    ]
)

MINHASH = pa.schema(
    [
        ("id", pa.string()),
        ("content", pa.binary(16)),  # 128-bit hash of the normalised text
        ("cluster", pa.string()),  # smallest id of the connected component, over all nights
        ("kept", pa.bool_()),
    ]
)

WORDS = pa.schema(
    [
        ("id", pa.string()),
        ("lengths", pa.binary()),  # a byte a word, in order: how many bytes of the document's text are the word
    ]
)

PAIRS = pa.schema(
    [
        ("id", pa.string()),  # 32 hex digits of (source name, place in the source, all texts)
        ("task", pa.string()),  # summarization, translation or question-answering
        ("set", pa.string()),  # name of the source in the configuration
        ("uri", pa.string()),
        ("both_ways", pa.bool_()),
        ("source_lang", pa.string()),
        ("target_lang", pa.string()),
        ("group", pa.string()),  # what stays in one split
        ("source", pa.large_string()),
        ("question", pa.large_string()),  # empty but for question-answering
        ("targets", pa.list_(pa.large_string())),  # each is right; the first is what is learnt
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
        "content_mask": pa.string(),  # a character a token of input_ids: 1 where it is part of a content word, else 0
        "n_bytes": pa.int64(),
    }.items()
)


def removed_table(rows: list[dict[str, object]]) -> pa.Table:
    """Return records for `removed`; keys that a row lacks become null."""
    return pa.Table.from_pylist([{name: row.get(name) for name in REMOVED.names} for row in rows], schema=REMOVED)
