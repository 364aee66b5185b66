"""Quotes: the span of a source that serves as the target, found for training and chosen in use.

An answer mostly stands in its passage; a summary or a long answer mostly resembles one to five sentences. Of what may
be quoted, the span is taken whose expected overlap with the right one is greatest, where the model's probabilities
say which may be right (minimum Bayes risk, Kumar and Byrne 2004): a likely place cut a little short beats a gamble.
"""

# S = tokens of a source, n = sentences, C = candidate spans

import re
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from slimpajama.text.tokenizer import Tokenizer

MOST_SENTENCES = 5
# Characters from which on a line without an end goes on in the next.
FULL_LINE = 50
# F1 in tokens, below which sentences say something else.
LEAST_ALIKE = 0.15
# Of an answer that is no sentences.
MOST_TOKENS = 64
# Tokens on either side of a place in which a question's words count.
AROUND = 32
# Spans that are weighed against each other.
CANDIDATES = 100
# Power of the likelihoods of a span's ends: scored apart, they look less sure than they are together.
SHARPNESS = 2.0

Ids = NDArray[np.uint16]

# Behind a mark that ends a sentence in either language, with the quotes and brackets that close behind it.
_SENTENCE_END = re.compile(r"(?<=[。！？；!?])[”’」』）)\"']*\s*|(?<=[.])[”’)\"']*\s+")


@dataclass(frozen=True, slots=True)
class Quote:
    """A span of what was read."""

    first: int
    last: int
    score: float
    """Log-odds of its ends: sums of logits, comparable between passages for one question."""


def sentences(line: str) -> list[str]:
    """Return a line's sentences, which join back to it exactly."""
    ends = [match.end() for match in _SENTENCE_END.finditer(line)]
    return [part for part in (line[a:b] for a, b in zip([0, *ends], [*ends, len(line)], strict=True)) if part]


def _paragraphs(text: str) -> list[str]:
    """Return the lines of a text, those together that were only broken because they were full."""
    found: list[str] = []
    goes_on = False
    for line in text.splitlines(keepends=True):
        if goes_on and line.strip():
            found[-1] += line
        else:
            found.append(line)
        goes_on = len(line) >= FULL_LINE and _SENTENCE_END.search(line.rstrip() + " ", len(line.rstrip()) - 1) is None
    return found


def sentence_spans(source: Ids, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Return first and last token (n, 2) of each sentence of a source that has a letter or digit."""
    ends = np.cumsum(tokenizer.token_bytes[source])
    spans, at = [], 0
    for line in _paragraphs(tokenizer.decode_bytes(source).decode("utf-8", "surrogateescape")):
        for sentence in sentences(line):
            size = len(sentence.encode("utf-8", "surrogateescape"))
            if any(char.isalnum() for char in sentence):
                spans.append((at, at + size - 1))
            at += size
    return np.searchsorted(ends, np.array(spans, np.int64).reshape(-1, 2), side="right")


def sentence_ends(tokenizer: Tokenizer) -> NDArray[np.bool_]:
    """Return which tokens (V,) are marks that end a sentence, by themselves or behind other characters."""
    pieces = [piece.decode("utf-8", "ignore").rstrip(" ") for piece in tokenizer.pieces]
    return np.array([piece.endswith(tuple("。！？；!?;.")) for piece in pieces], np.bool_)


def quote_of(source: Ids, target: Ids, question: Ids, tokenizer: Tokenizer) -> tuple[int, int] | None:
    """Return first and last token of what can be quoted as the target, or None.

    The answer to a question is looked for as it is; of several places where it stands, the one is taken that has most
    of the question's words around, rare ones first. Else the sentences that share most tokens with the target.
    """
    if len(question) and len(found := _occurrences(source, target, tokenizer)):
        asked = np.isin(source, question) / np.bincount(source)[source]
        sums = np.concatenate([[0.0], np.cumsum(asked)])
        first, last = found.T
        near = sums[np.minimum(last + 1 + AROUND, len(source))] - sums[np.maximum(first - AROUND, 0)]
        best = int(near.argmax())
        return int(first[best]), int(last[best])
    runs = sentence_runs(sentence_spans(source, tokenizer))
    if not len(runs) or not len(target):
        return None
    tokens, counts = np.unique(target, return_counts=True)
    have = np.concatenate([np.zeros((1, len(tokens)), np.int64), np.cumsum(source[:, None] == tokens, axis=0)])
    common = np.minimum(have[runs[:, 1] + 1] - have[runs[:, 0]], counts).sum(axis=1)
    alike = 2 * common / (runs[:, 1] + 1 - runs[:, 0] + len(target))
    best = int(alike.argmax())
    return (int(runs[best, 0]), int(runs[best, 1])) if alike[best] >= LEAST_ALIKE else None


def _occurrences(source: Ids, target: Ids, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Return first and last token (n, 2) of each place where a target's text stands, as whole tokens or parts."""
    text, wanted = tokenizer.decode_bytes(source), tokenizer.decode_bytes(target).strip()
    at = np.array([match.start() for match in re.finditer(re.escape(wanted), text)] if wanted else [], np.int64)
    bytes_2n = np.stack([at, at + len(wanted) - 1], axis=1)
    return np.searchsorted(np.cumsum(tokenizer.token_bytes[source]), bytes_2n, side="right")


def sentence_runs(spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return first and last token of every one to five sentences in a row."""
    runs = [
        np.stack([spans[: len(spans) - more, 0], spans[more:, 1]], axis=1)
        for more in range(min(MOST_SENTENCES, len(spans)))
    ]
    return np.concatenate(runs) if runs else np.zeros((0, 2), np.int64)


def answer_spans(source: Ids, tokenizer: Tokenizer) -> NDArray[np.int64]:
    """Return first and last token of every span of at most MOST_TOKENS and whole characters, and of sentences."""
    begins = tokenizer.begins_character[source]
    ends = np.append(begins[1:], True)
    first = np.repeat(np.arange(len(source)), MOST_TOKENS)
    last = first + np.tile(np.arange(MOST_TOKENS), len(source))
    first, last = first[last < len(source)], last[last < len(source)]
    whole = begins[first] & ends[last]
    runs = sentence_runs(sentence_spans(source, tokenizer))
    longer = runs[:, 1] - runs[:, 0] >= MOST_TOKENS
    return np.concatenate([np.stack([first[whole], last[whole]], axis=1), runs[longer]])


def best_quote(logits_2S: NDArray[np.float32], spans: NDArray[np.int64]) -> Quote | None:
    """Return the best of some spans (C, 2), or None if none can be quoted; logits are of first and of last places."""
    scores = logits_2S[0, spans[:, 0]] + logits_2S[1, spans[:, 1]]
    order = np.argsort(-scores, kind="stable")[:CANDIDATES]
    order = order[np.isfinite(scores[order])]
    if not len(order):
        return None
    (first, last), likely = spans[order].T, np.exp(SHARPNESS * (scores[order] - scores[order[0]]))
    common = np.minimum(last[:, None], last) - np.maximum(first[:, None], first) + 1
    size = last - first + 1
    overlap = 2 * np.maximum(common, 0) / (size[:, None] + size)
    best = int((overlap @ (likely / likely.sum())).argmax())
    return Quote(int(first[best]), int(last[best]), float(scores[order[best]]))
