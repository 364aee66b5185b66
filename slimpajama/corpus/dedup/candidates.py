"""Which documents are worth comparing exactly: those that share a band key.

Two documents of similarity J share at least one of b bands of r rows with probability 1 - (1 - J^r)^b. Bands are
looked at one by one.

Fan-out is bounded in two looks. First, in a group of equal keys of up to `GROUP` documents all are paired; in a larger
one each is paired with the group's first. Callers number documents by who survives first and, after that, by
length; so a group's first is its likely survivor, and a million near-copies make about a million pairs and no 10^12.
Then those that survive this look for each other: all pairs of up to `CROWD` of them, of more the first and `NEIGHBOURS`
predecessors, which are nearest in length. Whoever survives only because its partner did not takes part in a next look.
Removed ones may link what stands apart so far, one survivor's copies with another's: with the second look, documents
of a large group that no chain of pairs joins yet are paired in the same way, removed or not.

Source: Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3.4.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

from slimpajama.corpus.dedup.spill import Packed, unpack

GROUP = 8
CROWD = 48
NEIGHBOURS = 8
# Kept earlier documents that one key is compared with.
SHARED = 48
# In a later look: removed; survived the last one, too; survives since.
LEFT_OUT, KNOWN, NEW = 0, 1, 2
# Of all earlier documents that share a key, this many are compared: those that share the most.
PARTNERS = 16

Pairs = npt.NDArray[np.int64]


def probability_caught(jaccard: float, bands: int, rows: int) -> float:
    """Return the probability that two documents of this similarity become a candidate pair."""
    return float(1.0 - (1.0 - jaccard**rows) ** bands)


def caught_table(bands: int, rows: int) -> list[tuple[float, float]]:
    """Return (J, probability that a pair of similarity J is compared) for the log of a run."""
    steps = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    return [(jaccard, probability_caught(jaccard, bands, rows)) for jaccard in steps]


def group_pairs(
    keys: npt.NDArray[np.uint64], left: npt.NDArray[np.uint8] | None = None, apart: npt.NDArray[np.uint32] | None = None
) -> tuple[Packed, bool]:
    """Return packed pairs of documents that share a key, of one band, and whether there are large groups.

    Args:
        keys: uint64 [N], documents in order of survival.
        left: None for the first look: all pairs of small groups, the first with each other in large ones.
            uint8 [N] for a later one: in large groups, pairs of a `NEW` document with one that is not `LEFT_OUT`.
        apart: uint32 [N], each document's connected component: in a later look, pairs that join two of them, too.
    """
    # A key's upper half and the document's number in one word: one plain sort groups and orders, three times as
    # fast as sorting places by key, and half the memory. Lower halves are compared pair by pair.
    numbered = (keys & np.uint64(0xFFFFFFFF00000000)) | np.arange(len(keys), dtype=np.uint64)
    numbered.sort()
    among = np.zeros(0, np.uint8) if left is None else left
    parts = np.zeros(0, np.uint32) if apart is None else apart
    pairs, large = _pairs_of_groups(numbered, keys, among, parts)
    return pairs, bool(large)


@numba.njit(nogil=True, cache=True)
def _pairs_of_groups(numbered: Any, keys: Any, left: Any, apart: Any) -> Any:
    """Return pairs and whether there are large groups; `numbered` is changed."""
    out, total, end, large = np.empty(1024, np.uint64), 0, 0, False
    whole, unjoined = np.zeros(0, np.uint8), np.zeros(0, np.uint32)
    while end < len(numbered):
        start, key = end, numbered[end] >> np.uint64(32)
        while end < len(numbered) and numbered[end] >> np.uint64(32) == key:
            numbered[end] &= np.uint64(0xFFFFFFFF)
            end += 1
        members = numbered[start:end]
        large |= len(members) > GROUP
        if len(left) == 0:
            reach = len(members) if len(members) <= GROUP else 0
            out, total = _pairs_of_group(members, reach, keys, whole, unjoined, out, total)
        elif len(members) > GROUP:
            if len(apart):
                reach = len(members) if len(members) <= CROWD else NEIGHBOURS
                out, total = _pairs_of_group(members, reach, keys, whole, apart, out, total)
            size = 0
            for member in members:
                if left[member] != LEFT_OUT:
                    members[size] = member
                    size += 1
            reach = size if size <= CROWD else NEIGHBOURS
            out, total = _pairs_of_group(members[:size], reach, keys, left, unjoined, out, total)
    return out[:total], large


@numba.njit(nogil=True, cache=True)
def _pairs_of_group(members: Any, reach: int, keys: Any, left: Any, apart: Any, out: Any, total: int) -> Any:
    """Append pairs of each member with the first one and with up to `reach` before it."""
    for i in range(1, len(members)):
        b = members[i]
        near = max(1, i - reach)
        for j in range(near - 1, i):
            a = members[0 if j == near - 1 else j]
            if keys[a] != keys[b] or (len(left) and left[a] != NEW and left[b] != NEW):
                continue
            if len(apart) and (j == near - 1 or apart[a] == apart[b]):
                continue
            if total == len(out):
                grown = np.empty(2 * total, np.uint64)
                grown[:total] = out
                out = grown
            out[total] = a << np.uint64(32) | b
            total += 1
    return out, total


class HistoryJoin:
    """Tonight's keys, against which earlier documents' keys are streamed.

    Tonight's keys stay in memory; an earlier night costs one look at each of its keys, and its text is only
    read for the documents that matched. A key takes the first `SHARED` kept documents and the first removed one
    that it meets, so the order of calls is part of the answer: earlier nights first, files in their order.

    Args:
        keys: uint64 [columns, N], tonight's documents in order of survival.
    """

    def __init__(self, keys: npt.NDArray[np.uint64]) -> None:
        self._order = np.empty(keys.shape, np.uint32)
        self._sorted = np.empty(keys.shape, np.uint64)
        for column, order, ordered in zip(keys, self._order, self._sorted, strict=True):
            order[:] = np.argsort(column, kind="stable")
            ordered[:] = column[order]
        # At a key's first place: removed, kept.
        self._taken = np.zeros((*self._sorted.shape, 2), np.uint8)
        # Keys are hashes, evenly spread: a directory over their top bits replaces most of a binary search.
        bits = max(1, keys.shape[1].bit_length() - 3)
        self._shift = np.uint64(64 - bits)
        tops = np.arange(1 << bits, dtype=np.uint64) << self._shift
        ends = [np.append(np.searchsorted(row, tops), len(row)) for row in self._sorted]
        self._directory = np.stack(ends).astype(np.uint32)

    def match(self, keys: npt.NDArray[np.uint64], kept: npt.NDArray[np.bool_]) -> tuple[Pairs, npt.NDArray[np.int64]]:
        """Return pairs (row of the earlier documents, tonight's document) and how many keys each pair shares.

        Args:
            keys: uint64 [columns, M] of earlier documents.
            kept: bool [M], whether each of them is part of its night's corpus.
        """
        packed = _matches(keys, kept, self._sorted, self._order, self._directory, self._shift, self._taken, SHARED)
        packed.sort()
        first = np.flatnonzero(np.append(True, packed[1:] != packed[:-1])[: len(packed)])
        return unpack(packed[first]), np.diff(first, append=len(packed))


@numba.njit(nogil=True, cache=True)
def _matches(keys: Any, kept: Any, columns: Any, order: Any, directory: Any, shift: Any, taken: Any, group: int) -> Any:
    out, total = np.empty(1024, np.uint64), 0
    for c in range(len(keys)):
        column = columns[c]
        for row in range(keys.shape[1]):
            key, which, limit = keys[c, row], 0, 1
            if kept[row]:
                which, limit = 1, group
            top = np.int64(key >> shift)
            i, end = np.int64(directory[c, top]), np.int64(directory[c, top + 1])
            while i < end and column[i] < key:
                i += 1
            if i == end or column[i] != key or taken[c, i, which] >= limit:
                continue
            taken[c, i, which] += 1
            while i < end and column[i] == key:
                if total == len(out):
                    grown = np.empty(2 * total, np.uint64)
                    grown[:total] = out
                    out = grown
                out[total] = np.uint64(row) << np.uint64(32) | np.uint64(order[c, i])
                total += 1
                i += 1
    return out[:total]


def most_shared(pairs: Pairs, shared: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Return the places of the pairs to compare: for each tonight's document those that share the most keys.

    Args:
        pairs: int64 [P, 2] of (earlier document, tonight's document).
        shared: int64 [P], how many keys a pair shares; of equals the earlier document goes first.
    """
    order = np.lexsort((pairs[:, 0], -shared, pairs[:, 1]))
    documents = pairs[order, 1]
    place_in_run = np.arange(len(order)) - np.searchsorted(documents, documents, side="left")
    return np.sort(order[place_in_run < PARTNERS])
