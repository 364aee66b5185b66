"""Pairs as token ids: what a tuned model reads and writes, the same in training and in use.

A *kind* is what is asked for: `summarize`, `translate-zh` (to Chinese), `answer`. A question stands before its
passage, with the document token behind it; every window of a long passage begins with the question, so that each is
read for it. Where a target stands in its source, or sentences there come near it, their place is learnt, too. Behind
what is translated stands its draft, with the document token between them.
"""

# N = examples, S = tokens of a source, T = tokens of a target, K = tokens a chunk

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
import pyarrow as pa
from numpy.typing import NDArray

from slimpajama.apps.tune.spans import quote_of
from slimpajama.core.split import hashes
from slimpajama.corpus.shards.columns import encode_words, words_of
from slimpajama.model.architectures.seq2seq import NO_QUOTE
from slimpajama.text.tokenizer import Tokenizer

SUMMARIZE, ANSWER = "summarize", "answer"
QUOTED = (SUMMARIZE, ANSWER)
# Of a row, at most, that a question takes in each window.
QUESTION_SHARE = 0.25

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
    quotes: NDArray[np.int64]
    """First and last place (N, 2) in the source of what can be quoted as the target, or NO_QUOTE twice."""
    keys: NDArray[np.uint64]
    """A hash of each pair's id and kind (N,)."""

    def __len__(self) -> int:
        return len(self.kinds)


def encode_pairs(
    rows: pl.DataFrame, tokenizer: Tokenizer, row_tokens: int, source_tokens: int, target_tokens: int
) -> Examples:
    """Return the examples of pairs.

    Args:
        rows: Columns of PAIRS and `draft`; those learnt both ways stand there twice, as `directions` has them.
        row_tokens: Tokens a window.
        source_tokens: Most of a source that is read; questions come on top.
        target_tokens: Most of a target that is written, its end included; a longer one is cut and has no end.
    """
    rows = rows.with_columns(target=pl.col("targets").list.first())
    sources, questions, targets, drafts = (
        encode_texts(rows[name].to_arrow().cast(pa.large_string()), tokenizer)
        for name in ("source", "question", "target", "draft")
    )
    end = np.array([tokenizer.document_id], np.uint16)
    read = [
        drafted(source, draft, tokenizer.document_id, source_tokens)
        if len(draft)
        else windows(source, question, tokenizer.document_id, row_tokens, source_tokens)
        for source, question, draft in zip(sources, questions, drafts, strict=True)
    ]
    kinds = [kind_of(*row) for row in rows.select("task", "target_lang").iter_rows()]
    quotes = np.full((len(rows), 2), NO_QUOTE, np.int64)
    for number, kind in enumerate(kinds):
        if kind in QUOTED:
            asked = questions[number]
            if found := quote_of(sources[number][:source_tokens], targets[number], asked, tokenizer):
                quotes[number] = places_of(np.array(found), len(asked), row_tokens)
    return Examples(
        sources=read,
        targets=[np.concatenate([target, end])[:target_tokens] for target in targets],
        kinds=kinds,
        quotes=quotes,
        keys=hashes([f"{pair} {kind}" for pair, kind in zip(rows["id"], kinds, strict=True)], "rows", 0),
    )


def directions(pairs: pl.DataFrame) -> pl.DataFrame:
    """Return pairs and behind them those that are learnt both ways once more, turned round; `reversed` tells which."""
    first = pairs.with_columns(reversed=pl.lit(False))
    back = first.filter("both_ways").with_columns(
        source=pl.col("targets").list.first(),
        targets=pl.concat_list("source"),
        source_lang=pl.col("target_lang"),
        target_lang=pl.col("source_lang"),
        reversed=pl.lit(True),
    )
    return pl.concat([first, back])


def windows(source: Ids, question: Ids, document_id: int, row_tokens: int, source_tokens: int) -> Ids:
    """Return the tokens (S,) that are read of a source: at most `source_tokens`, with the question before every row."""
    head, source = _head(len(question), row_tokens), source[:source_tokens]
    if not head:
        return source
    asked = np.append(question[: head - 1], np.uint16(document_id)).astype(np.uint16)
    step = row_tokens - head
    parts = [np.concatenate([asked, source[at : at + step]]) for at in range(0, max(1, len(source)), step)]
    return np.concatenate(parts)


def drafted(source: Ids, draft: Ids, document_id: int, source_tokens: int) -> Ids:
    """Return a source with its draft behind it, at most `source_tokens`."""
    return np.concatenate([source, np.array([document_id], np.uint16), draft])[:source_tokens]


def rarity(texts: Sequence[Ids], vocab_size: int) -> NDArray[np.float32]:
    """Return how rare each token is (V,), from 0 to 1 for what was seen once.

    That is the square of log(N / n) / log(N), of N tokens of which n are this one: what is common counts for little.
    """
    counts = np.bincount(np.concatenate([*texts, np.zeros(0, np.uint16)]), minlength=vocab_size)
    whole = max(2, int(counts.sum()))
    found: NDArray[np.float32] = ((np.log(whole / np.maximum(counts, 1)) / np.log(whole)) ** 2).astype(np.float32)
    return found


def _head(question_tokens: int, row_tokens: int) -> int:
    """Return how many tokens of each window the question takes, with its end."""
    return min(question_tokens, int(QUESTION_SHARE * row_tokens) - 1) + 1 if question_tokens else 0


def places_of(tokens: NDArray[np.int64], question_tokens: int, row_tokens: int) -> NDArray[np.int64]:
    """Return where tokens of a source stand in its windows."""
    head = _head(question_tokens, row_tokens)
    rows, behind = np.divmod(tokens, row_tokens - head)
    return rows * row_tokens + head + behind


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
