"""Which documents are worth comparing exactly: those that share a band key.

Two documents of similarity J share at least one of b bands of r rows with probability 1 - (1 - J^r)^b. Keys are
grouped one band at a time, so memory holds one band's order and the pairs found, not all bands' groups.

Fan-out is bounded. In a group of equal keys of up to `GROUP` documents all are paired. In a larger one each is
paired with the group's first and with `NEIGHBOURS` others that, as far as possible, share the next band too: a
million near-copies make a few million pairs and no 10^12. Callers number documents by who survives first and,
after that, by length; so a group's first is its likely survivor.

Source: Leskovec, Rajaraman, Ullman, "Mining of Massive Datasets", chapter 3.4.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["HistoryJoin", "candidate_pairs", "caught_table", "most_shared", "probability_caught"]

GROUP = 48
NEIGHBOURS = 8
PARTNERS = 16  # of all earlier documents that share a key, this many are compared: those that share the most

Pairs = npt.NDArray[np.int64]


def probability_caught(jaccard: float, bands: int, rows: int) -> float:
    """Return the probability that two documents of this similarity become a candidate pair."""
    return float(1.0 - (1.0 - jaccard**rows) ** bands)


def caught_table(bands: int, rows: int) -> list[tuple[float, float]]:
    """Return (J, probability that a pair of similarity J is compared) for the log of a run."""
    steps = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
    return [(jaccard, probability_caught(jaccard, bands, rows)) for jaccard in steps]


def _unpack(packed: npt.NDArray[np.uint64]) -> Pairs:
    return np.stack([packed >> np.uint64(32), packed & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)


def candidate_pairs(keys: npt.NDArray[np.uint64]) -> Pairs:
    """Return pairs of documents that share a band key.

    Args:
        keys: uint64 [N, bands], documents in order of survival.

    Returns:
        int64 [P, 2], first < second in each row, sorted, without repeats.
    """
    bands = keys.shape[1]
    packed = np.zeros(0, np.uint64)
    for band in range(bands):
        column, following = keys[:, band].copy(), keys[:, (band + 1) % bands].copy()
        order = np.argsort(column, kind="stable")  # stable: inside a group documents stay in order
        starts = np.flatnonzero(np.diff(column[order], prepend=~column[order[:1]]))
        ends = np.append(starts[1:], len(order))
        refined = order.copy()
        for start, end in zip(starts[ends - starts > GROUP], ends[ends - starts > GROUP], strict=True):
            members = order[start:end]
            refined[start:end] = members[np.argsort(following[members], kind="stable")]
        packed = _distinct(np.concatenate([packed, _pairs_of_groups(starts, ends, order, refined, GROUP, NEIGHBOURS)]))
    return _unpack(packed)


def _distinct(packed: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """Return the distinct values, sorted; `np.unique` goes by a hash table, which is many times slower here."""
    ordered = np.sort(packed, kind="stable")
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


@numba.njit(nogil=True, cache=True)
def _pairs_of_groups(starts: Any, ends: Any, order: Any, refined: Any, group: int, neighbours: int) -> Any:
    """Return the pairs of one band's groups, packed as smaller * 2^32 + larger."""
    total = 0
    for size in ends - starts:
        total += size * (size - 1) // 2 if size <= group else (size - 1) * (neighbours + 1)
    out, n = np.empty(total, np.uint64), 0
    for g in range(len(starts)):
        size = ends[g] - starts[g]
        members = refined[starts[g] : ends[g]]
        reach = size if size <= group else neighbours
        for i in range(1, size):
            for j in range(max(0, i - reach), i):
                a, b = min(members[i], members[j]), max(members[i], members[j])
                out[n] = np.uint64(a) << np.uint64(32) | np.uint64(b)
                n += 1
            if size > group:
                out[n] = np.uint64(order[starts[g]]) << np.uint64(32) | np.uint64(order[starts[g] + i])
                n += 1
    return out[:n]


class HistoryJoin:
    """Tonight's keys, against which earlier documents' keys are streamed.

    Tonight's keys stay in memory; an earlier night costs one look at each of its keys, and its text is only
    read for the documents that matched. A key takes the first `GROUP` kept documents and the first removed one
    that it meets, so the order of calls is part of the answer: earlier nights first, files in their order.

    Args:
        keys: uint64 [N, columns], tonight's documents in order of survival.
    """

    def __init__(self, keys: npt.NDArray[np.uint64]) -> None:
        order = [np.argsort(column, kind="stable") for column in keys.T]
        self._sorted = np.stack([column[places] for column, places in zip(keys.T, order, strict=True)])
        self._order = np.stack(order).astype(np.uint32)
        self._taken = np.zeros((*self._sorted.shape, 2), np.uint8)  # at a key's first place: removed, kept
        # Keys are hashes, evenly spread: a directory over their top bits replaces most of a binary search.
        bits = max(1, len(keys).bit_length() - 3)
        self._shift = np.uint64(64 - bits)
        tops = np.arange(1 << bits, dtype=np.uint64) << self._shift
        ends = [np.append(np.searchsorted(row, tops), len(row)) for row in self._sorted]
        self._directory = np.stack(ends).astype(np.uint32)

    def match(self, keys: npt.NDArray[np.uint64], kept: npt.NDArray[np.bool_]) -> tuple[Pairs, npt.NDArray[np.int64]]:
        """Return pairs (row of the earlier documents, tonight's document) and how many keys each pair shares.

        Args:
            keys: uint64 [M, columns] of earlier documents.
            kept: bool [M], whether each of them is part of its night's corpus.
        """
        packed = _matches(keys, kept, self._sorted, self._order, self._directory, self._shift, self._taken, GROUP)
        packed, shared = np.unique(packed, return_counts=True)
        return _unpack(packed), shared


@numba.njit(nogil=True, cache=True)
def _matches(keys: Any, kept: Any, columns: Any, order: Any, directory: Any, shift: Any, taken: Any, group: int) -> Any:
    out, total = np.empty(1024, np.uint64), 0
    for row in range(len(keys)):
        which, limit = (1, group) if kept[row] else (0, 1)
        for c in range(columns.shape[0]):
            key, column = keys[row, c], columns[c]
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
