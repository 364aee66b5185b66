"""Two figures about generated text: how much it repeats itself, and how much it copies from its training data."""

# N = tokens

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

REPEAT_TOKENS = 4
# About 50 bytes: nobody writes that much word for word by chance.
COPY_TOKENS = 16
# 2^64 over the golden ratio, odd: multiplying by it mixes and is invertible.
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


def ngram_hashes(ids_N: NDArray[np.integer], n: int) -> NDArray[np.uint64]:
    """Return a 64-bit hash of every run of `n` tokens, shape (N - n + 1,); empty where there are fewer."""
    count = len(ids_N) - n + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    tokens = ids_N.astype(np.uint64) + np.uint64(1)
    hashes = np.zeros(count, np.uint64)
    for place in range(n):
        hashes = (hashes ^ tokens[place : place + count]) * MULTIPLIER
        hashes ^= hashes >> np.uint64(29)
    return hashes


def repeated_share(ids: Sequence[int]) -> float:
    """Return the share of 4-grams of tokens that occurred before in the same text, from 0 to nearly 1."""
    hashes = ngram_hashes(np.asarray(ids, np.int64), REPEAT_TOKENS)
    return 1 - len(np.unique(hashes)) / len(hashes) if len(hashes) else 0.0


def copied_share(samples: Sequence[Sequence[int]], shards: Iterable[NDArray[np.integer]]) -> list[float]:
    """Return for each sample the share of its tokens that lie in a run of 16 which the training data holds too.

    Args:
        shards: Token ids of the training data, one array at a time; a run across two documents counts as well.
    """
    runs = [ngram_hashes(np.asarray(sample, np.int64), COPY_TOKENS) for sample in samples]
    wanted = np.unique(np.concatenate([*runs, np.empty(0, np.uint64)]))
    seen = np.zeros(len(wanted), np.bool_)
    for ids in shards:
        if len(wanted):
            seen |= np.isin(wanted, ngram_hashes(ids, COPY_TOKENS))
    return [_covered(len(sample), np.isin(run, wanted[seen])) for sample, run in zip(samples, runs, strict=True)]


def _covered(length: int, copied: NDArray[np.bool_]) -> float:
    """Return the share of `length` tokens that lie in a run flagged at its start."""
    if not copied.any():
        return 0.0
    marks = np.zeros(length + 1, np.int64)
    np.add.at(marks, np.flatnonzero(copied), 1)
    np.add.at(marks, np.flatnonzero(copied) + COPY_TOKENS, -1)
    return float((np.cumsum(marks)[:length] > 0).mean())
