"""How much of a document repeats itself: lines, paragraphs and n-grams (Rae et al. 2021, Gopher, table A1).

An n-gram is n words. In Chinese it is `HAN_PER_WORD` times as many ideographs, so an advertisement that is repeated
without a space or a line break is seen.

An n-gram that occurs once lies in no longer n-gram that occurs twice. So widths go from short to long, and each looks
only at places where the one before found company: few are left after the first, and ten widths cost about two.
Two n-grams are taken as equal if 43 bits of their hashes and the slot agree.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
import numpy.typing as npt

WORDS = (2, 3, 4, 5, 6, 7, 8, 9, 10)
"""Widths in words; of the first three the share of the most frequent one is measured, of the others all repeats."""
_TOP = 3
# Of a slot's 64 bits: the first place, counted from 1; above it bits of the key.
_PLACE = np.uint64((1 << 21) - 1)

Parts = tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.int32]]


def repeats(parts: Parts) -> npt.NDArray[np.float64]:
    """Return float64 [N, 2]: of each document's lines (or paragraphs) and of their characters, the share seen before.

    Args:
        parts: Offsets [N + 1], hashes and lengths in characters, as `Scan` has them.
    """
    ends, hashes, lengths = parts
    shares = np.zeros((len(ends) - 1, 2))
    _repeats(ends, hashes, lengths, shares)
    return shares


def ngram_repetition(units: Parts, widths: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return float64 [N, len(WORDS)]: shares of the characters of a document's units, 0 where nothing repeats.

    For the first three widths those within the most frequent n-gram (its characters times how often it occurs, at
    most 1); for the others those within n-grams that occurred before, from left to right without overlap: so FineWeb
    and FineWeb2 counted when they set their bounds.

    Args:
        units: Offsets [N + 1], hashes and lengths in characters.
        widths: int64 [N, len(WORDS)], the n-grams' widths in units, growing, none more than doubling.
    """
    ends, hashes, lengths = units
    shares = np.zeros((len(ends) - 1, len(WORDS)))
    _ngrams(ends, hashes, lengths, widths, shares)
    return shares


@numba.njit(nogil=True, cache=True, inline="always")
def _slot(key: Any, mask: Any) -> Any:
    key = (key ^ (key >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64((key ^ (key >> np.uint64(29))) & np.uint64(mask))


@numba.njit(nogil=True, cache=True)
def _table_size(items: int) -> int:
    size = 16
    while size < 2 * items:
        size *= 2
    return size


@numba.njit(nogil=True, cache=True)
def _most(ends: Any) -> int:
    most = 0
    for d in range(len(ends) - 1):
        most = max(most, ends[d + 1] - ends[d])
    return most


@numba.njit(nogil=True, cache=True)
def _repeats(ends: Any, hashes: Any, lengths: Any, shares: Any) -> None:
    table = np.empty(_table_size(_most(ends)), np.int64)
    for d in range(len(ends) - 1):
        first, end = ends[d], ends[d + 1]
        size = _table_size(end - first)
        table[:size] = -1
        again = chars = total = 0
        for i in range(first, end):
            total += lengths[i]
            slot = _slot(hashes[i], size - 1)
            while table[slot] >= 0 and hashes[table[slot]] != hashes[i]:
                slot = (slot + 1) & (size - 1)
            if table[slot] >= 0:
                again += 1
                chars += lengths[i]
            else:
                table[slot] = i
        if again:
            shares[d, 0], shares[d, 1] = again / (end - first), chars / total


@numba.njit(nogil=True, cache=True)
def _ngrams(ends: Any, hashes: Any, lengths: Any, widths: Any, shares: Any) -> None:
    most = _most(ends)
    table = np.empty(_table_size(most), np.uint64)
    # Bits shifted in by the n-grams that fall on it: one or more.
    sieve = np.empty(_table_size(2 * most), np.uint8)
    keys = np.empty(most, np.uint64)
    count = np.empty(most, np.int32)
    start = np.zeros(most + 1, np.int64)  # characters before a unit
    # First place of the same n-gram; -1: occurs once.
    group, longer = (
        np.empty(most, np.int32),
        np.empty(most, np.int32),
    )
    places = np.empty(most, np.int32)
    for d in range(len(ends) - 1):
        first, n = ends[d], ends[d + 1] - ends[d]
        for i in range(n):
            start[i + 1] = start[i] + lengths[first + i]
            group[i] = longer[i] = -1
        found = 0
        for level in range(widths.shape[1]):
            width = widths[d, level]
            if width > n:
                break
            if level == 0:
                sieve[: _table_size(2 * n)] = 0
                mask = np.uint64(_table_size(2 * n) - 1)
                for i in range(n - width + 1):
                    key = np.uint64(0)
                    for k in range(width):
                        key = (key ^ hashes[first + i + k]) * np.uint64(0xFF51AFD7ED558CCD)
                        key ^= key >> np.uint64(31)
                    keys[i] = key
                    sieve[key & mask] = (sieve[key & mask] << 1) | 1
                # Without a branch that the processor would have to guess.
                for i in range(n - width + 1):
                    places[found] = i
                    found += sieve[keys[i] & mask] > 1
            else:
                step = width - widths[d, level - 1]
                kept = 0
                for k in range(found):
                    i = places[k]
                    if i + width <= n and group[i + step] >= 0:
                        keys[i] = (np.uint64(group[i]) << np.uint64(32)) | np.uint64(group[i + step])
                        places[kept] = i
                        kept += 1
                    else:
                        # No later place of this width looks back at it.
                        group[i] = longer[i] = -1
                found = kept
            size = _table_size(found)
            table[:size] = 0
            for k in range(found):
                i = places[k]
                key = keys[i] * np.uint64(0x9E3779B97F4A7C15)
                key ^= key >> np.uint64(32)
                slot = np.int64(key & np.uint64(size - 1))
                tag = key & ~_PLACE
                while table[slot] and table[slot] & ~_PLACE != tag:
                    slot = (slot + 1) & (size - 1)
                if not table[slot]:
                    table[slot] = tag | np.uint64(i + 1)
                    count[i] = 0
                same = np.int64(table[slot] & _PLACE) - 1
                longer[i] = same
                count[same] += 1
            kept = covered = behind = best = best_chars = 0
            for k in range(found):
                i = places[k]
                same = longer[i]
                if count[same] == 1:
                    group[i] = longer[i] = -1
                    continue
                places[kept] = i
                kept += 1
                if same != i:
                    if i >= behind:
                        covered += start[i + width] - start[i]
                        behind = i + width
                elif count[i] > best or (count[i] == best and start[i + width] - start[i] > best_chars):
                    best, best_chars = count[i], start[i + width] - start[i]
            found = kept
            chars = best * best_chars if level < _TOP else covered
            shares[d, level] = min(1.0, chars / start[n])
            if not found:
                break
            group, longer = longer, group
