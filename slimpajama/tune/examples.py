"""Pairs as token ids: what a tuned model reads and writes, the same in training and in use.

A *kind* is what is asked for: `summarize`, `translate-zh` (to Chinese), `answer`. A question stands before its
passage, with the document token behind it; every window of a long passage begins with the question, so that each is
read for it.
"""

# N = examples, S = tokens of a source, T = tokens of a target, W = windows of a source, K = tokens a chunk

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from slimpajama.shards.columns import encode_words, words_of
from slimpajama.tokenizer import Tokenizer

__all__ = [
    "ANSWER",
    "SUMMARIZE",
    "Examples",
    "directions",
    "encode_pairs",
    "encode_texts",
    "kind_of",
    "padded",
    "windows",
]

SUMMARIZE, ANSWER = "summarize", "answer"
QUESTION_SHARE = 0.25  # of a row, at most, that a question takes in each window

Ids = NDArray[np.uint16]


def kind_of(task: str, target_lang: str) -> str:
    """Return the kind of a pair."""
    return {"summarization": SUMMARIZE, "question-answering": ANSWER}.get(task, f"translate-{target_lang}")


@dataclass(frozen=True, slots=True)
class Examples:
    """N pairs, ready to be read."""

    sources: list[Ids]
    """Windows end to end, each a row but for the last one."""
    targets: list[Ids]
    """The end token stands behind each."""
    kinds: list[str]
    ids: list[str]

    def __len__(self) -> int:
        return len(self.kinds)


def encode_pairs(
    pairs: pl.DataFrame, tokenizer: Tokenizer, row_tokens: int, source_tokens: int, target_tokens: int
) -> Examples:  # fmt: skip
    """Return the examples of pairs; a translation that is learnt both ways makes two.

    Args:
        pairs: Columns of PAIRS.
        tokenizer: The champion's.
        row_tokens: Tokens a window.
        source_tokens: Most of a source that is read.
        target_tokens: Most of a target that is written, its end included; a longer one is cut and has no end.
    """
    rows = directions(pairs).with_columns(target=pl.col("targets").list.first())
    sources, questions, targets = (
        encode_texts(rows[name].to_arrow().cast(pa.large_string()), tokenizer)
        for name in ("source", "question", "target")
    )
    end = np.array([tokenizer.document_id], np.uint16)
    return Examples(
        sources=[
            windows(source, question, tokenizer.document_id, row_tokens, source_tokens)
            for source, question in zip(sources, questions, strict=True)
        ],
        targets=[np.concatenate([target, end])[:target_tokens] for target in targets],
        kinds=[kind_of(*row) for row in rows.select("task", "target_lang").iter_rows()],
        ids=rows["id"].to_list(),
    )


def directions(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return pairs and behind them those that are learnt both ways once more, turned round; `reversed` tells which."""
    first = pairs.with_columns(reversed=pl.lit(False))
    back = first.filter("both_ways").with_columns(
        source=pl.col("targets").list.first(), targets=pl.concat_list("source"), source_lang=pl.col("target_lang"),
        target_lang=pl.col("source_lang"), reversed=pl.lit(True),
    )  # fmt: skip
    return pl.concat([first, back])


def windows(source: Ids, question: Ids, document_id: int, row_tokens: int, source_tokens: int) -> Ids:
    """Return the tokens (S,) that are read of a source: at most `source_tokens`, the question in every row of them."""
    if not len(question):
        return source[:source_tokens]
    asked = np.append(question[: int(QUESTION_SHARE * row_tokens) - 1], np.uint16(document_id)).astype(np.uint16)
    step = row_tokens - len(asked)
    parts = [np.concatenate([asked, source[at : at + step]]) for at in range(0, max(1, len(source)), step)]
    return np.concatenate(parts)[:source_tokens]


def encode_texts(texts: pa.LargeStringArray, tokenizer: Tokenizer) -> list[Ids]:
    """Return the tokens of texts, each different word encoded once."""
    lengths = tokenizer.segmenter.lengths(texts)
    words = words_of(pa.table({"text": texts, "lengths": lengths}))
    ids = encode_words(words, np.zeros(len(words.values.dictionary), np.bool_), tokenizer)[1]
    return np.split(ids.values.to_numpy(), ids.offsets.to_numpy()[1:-1]) if len(texts) else []


def padded(rows: Sequence[Ids], multiple: int, filler: int) -> NDArray[np.int64]:
    """Return rows as one array (N, longest rounded up to `multiple`), `filler` behind their ends."""
    width = max(1, -(-max(map(len, rows)) // multiple)) * multiple
    out = np.full((len(rows), width), filler, np.int64)
    for number, row in enumerate(rows):
        out[number, : len(row)] = row
    return out
