"""Every pair of near-duplicates of a corpus, exactly, by means that share nothing with slimpajama's kernels.

Documents are sets of hashed character 13-grams (Python normalises the text, numpy hashes it to 64 bits). Two sets of
similarity t or more share an element among the first `n - ceil(t n) + 1` of each, in any fixed order of elements;
with rare ones first, few documents meet there, and all that meet are compared as whole sets.

Source: Chaudhuri, Ganti, Kaushik 2006, "A Primitive Operator for Similarity Joins in Data Cleaning" (prefix filter).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from slimpajama.corpus.dedup.normalise import normalise

NGRAM = 13

Hashes = npt.NDArray[np.uint64]


class Pairs(NamedTuple):
    """Pairs of documents by number, the first smaller, and their exact similarity."""

    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    jaccard: npt.NDArray[np.float64]


def hashed(text: str, ngram: int = NGRAM) -> Hashes:
    """Return the sorted distinct hashes of a text's character n-grams, by the reference normalisation.

    Two of 10^8 distinct n-grams get one hash with a probability of 0.0003.
    """
    code = np.frombuffer(normalise(text).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    width = min(ngram, len(code))
    out = np.zeros(max(1, len(code) - width + 1), np.uint64)
    for k in range(width):
        out = out * np.uint64(0x9E3779B97F4A7C15) + code[k : len(code) - width + 1 + k] + np.uint64(1)
    out ^= out >> np.uint64(31)
    out *= np.uint64(0xBF58476D1CE4E5B9)
    return np.unique(out ^ (out >> np.uint64(29)))


def jaccard(left: Hashes, right: Hashes) -> float:
    """Return the similarity of two sorted sets."""
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)


def join(texts: Sequence[str], threshold: float) -> Pairs:
    """Return every pair of texts whose similarity is at least `threshold`."""
    sets = [hashed(text) for text in texts]
    everything = np.concatenate(sets)
    everything.sort()
    first = np.flatnonzero(np.append(True, everything[1:] != everything[:-1]))
    distinct, count = everything[first], np.diff(np.append(first, len(everything)))
    del everything
    words, owners = [], []
    for number, elements in enumerate(sets):
        place = np.searchsorted(distinct, elements)
        length = len(elements) - math.ceil(threshold * len(elements) - 1e-9) + 1
        prefix = place[np.argsort(count[place], kind="stable")[:length]]
        # What no other document has joins it to none.
        prefix = prefix[count[prefix] > 1]
        words.append(prefix.astype(np.int64))
        owners.append(np.full(len(prefix), number, np.int64))
    word, owner = np.concatenate(words), np.concatenate(owners)
    order = np.lexsort((owner, word))
    word, owner = word[order], owner[order]
    candidates, alive, step = np.zeros(0, np.uint64), np.arange(len(owner)), 0
    # Neighbours among the documents of one word, then those two apart, and so on.
    while len(alive):
        step += 1
        alive = alive[alive + step < len(owner)]
        alive = alive[word[alive + step] == word[alive]]
        met = owner[alive].astype(np.uint64) << np.uint64(32) | owner[alive + step].astype(np.uint64)
        candidates = np.union1d(candidates, met)
    left, right = (candidates >> np.uint64(32)).astype(np.int64), (candidates & np.uint64(0xFFFFFFFF)).astype(np.int64)
    size = np.array([len(elements) for elements in sets])
    near = np.minimum(size[left], size[right]) >= threshold * np.maximum(size[left], size[right])
    left, right = left[near], right[near]
    similarity = np.array([jaccard(sets[a], sets[b]) for a, b in zip(left, right, strict=True)], np.float64)
    enough = similarity >= threshold
    return Pairs(left[enough], right[enough], similarity[enough])
