"""How much of a document repeats itself: lines, paragraphs and n-grams (Rae et al. 2021, Gopher, table A1).

An n-gram is n words. In Chinese it is `HAN_PER_WORD` times as many ideographs, so an advertisement that is repeated
without a space or a line break is seen.

An n-gram that occurs once lies in no longer n-gram that occurs twice. So widths go from short to long, and each looks
only at places where the one before found company: few are left after the first, and ten widths cost about two.
Two n-grams are taken as equal if 43 bits of their hashes and the slot agree.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slimpajama.corpus.clean.signals import Parts
from slimpajama.text.kernels import GOLDEN, compiled, find_slot

WORDS = (2, 3, 4, 5, 6, 7, 8, 9, 10)
"""Widths in words; of the first three the share of the most frequent one is measured, of the others all repeats."""
_TOP = 3
# Of a slot's 64 bits: the first place, counted from 1; above it bits of the key.
_PLACE = np.uint64((1 << 21) - 1)


def repeats(parts: Parts) -> npt.NDArray[np.float64]:
    """Return float64 [N, 2]: the share seen before of a document's lines (or paragraphs), and of their characters."""
    shares = np.zeros((len(parts.ends) - 1, 2))
    _repeats(parts, np.empty(_table_size(_most(parts)), np.uint64), shares)
    return shares


def ngram_repetition(units: Parts, widths: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Return float64 [N, len(WORDS)]: shares of the characters of a document's units, 0 where nothing repeats.

    For the first three widths those within the most frequent n-gram (its characters times how often it occurs, at
    most 1); for the others those within n-grams that occurred before, from left to right without overlap: so FineWeb
    and FineWeb2 counted when they set their bounds.

    `widths`, int64 [N, len(WORDS)], are the n-grams' widths in units: growing, none more than doubling.
    """
    shares = np.zeros((len(units.ends) - 1, len(WORDS)))
    most = _most(units)
    scratch = _Scratch(
        np.empty(_table_size(most), np.uint64),
        np.empty(_table_size(2 * most), np.uint8),
        np.empty(most, np.uint64),
        np.empty(most, np.int32),
        np.zeros(most + 1, np.int64),
        np.empty((2, most), np.int32),
        np.empty(most, np.int32),
    )
    _ngrams(units, widths, scratch, shares)
    return shares


def _most(parts: Parts) -> int:
    """Return how many parts the document has that has most."""
    return int(np.diff(parts.ends).max(initial=0))


@compiled(inline=True)
def _table_size(items: int) -> int:
    size = 16
    while size < 2 * items:
        size *= 2
    return size


@compiled
def _repeats(parts: Any, seen: Any, shares: Any) -> None:
    ends, hashes, lengths = parts
    for d in range(len(ends) - 1):
        first, end = ends[d], ends[d + 1]
        table = seen[: _table_size(end - first)]
        table[:] = 0
        again = chars = total = 0
        for i in range(first, end):
            total += lengths[i]
            # 0 marks a free slot.
            key = max(hashes[i], np.uint64(1))
            slot = find_slot(table, key)
            if table[slot]:
                again += 1
                chars += lengths[i]
            table[slot] = key
        if again:
            shares[d, 0], shares[d, 1] = again / (end - first), chars / total


class _Scratch(NamedTuple):
    """Working memory for the longest of some documents, of U units."""

    table: Any
    """uint64: hash table of bits of a key and a place."""
    sieve: Any
    """uint8: bits shifted in by the n-grams that fall on it, one or more."""
    keys: Any
    """uint64 [U]: of the n-gram at each place."""
    count: Any
    """int32 [U]: how often the n-gram occurs whose first place this is."""
    start: Any
    """int64 [U + 1]: characters before a unit."""
    groups: Any
    """int32 [2, U], of one width and the next: first place of the same n-gram, -1 where it occurs once."""
    places: Any
    """int32 [U]: places to look at, in order."""


@compiled
def _sift(hashes: Any, width: int, scratch: Any) -> int:
    """List the places of n-grams that may occur twice, and return how many."""
    keys, n = scratch.keys, len(hashes)
    sieve = scratch.sieve[: _table_size(2 * n)]
    sieve[:] = 0
    mask = np.uint64(len(sieve) - 1)
    for i in range(n - width + 1):
        key = np.uint64(0)
        for k in range(width):
            key = (key ^ hashes[i + k]) * np.uint64(0xFF51AFD7ED558CCD)
            key ^= key >> np.uint64(31)
        keys[i] = key
        sieve[key & mask] = (sieve[key & mask] << 1) | 1
    found = 0
    # Without a branch that the processor would have to guess.
    for i in range(n - width + 1):
        scratch.places[found] = i
        found += sieve[keys[i] & mask] > 1
    return found


@compiled
def _widen(n: int, width: int, step: int, found: int, group: Any, longer: Any, scratch: Any) -> int:
    """Keep the places where the n-grams at both ends of the wider one occur twice, and return how many."""
    kept = 0
    for k in range(found):
        i = scratch.places[k]
        if i + width <= n and group[i + step] >= 0:
            scratch.keys[i] = (np.uint64(group[i]) << np.uint64(32)) | np.uint64(group[i + step])
            scratch.places[kept] = i
            kept += 1
        else:
            # No later place of this width looks back at it.
            group[i] = longer[i] = -1
    return kept


@compiled
def _match(found: int, longer: Any, scratch: Any) -> None:
    """Write the first place of the same n-gram for each place, and count the places of each n-gram."""
    table = scratch.table[: _table_size(found)]
    table[:] = 0
    last = np.uint64(len(table) - 1)
    for k in range(found):
        i = scratch.places[k]
        key = scratch.keys[i] * GOLDEN
        key ^= key >> np.uint64(32)
        slot = key & last
        tag = key & ~_PLACE
        while table[slot] and table[slot] & ~_PLACE != tag:
            slot = (slot + np.uint64(1)) & last
        if not table[slot]:
            table[slot] = tag | np.uint64(i + 1)
            scratch.count[i] = 0
        same = np.int64(table[slot] & _PLACE) - 1
        longer[i] = same
        scratch.count[same] += 1


@compiled
def _measure(width: int, found: int, group: Any, longer: Any, scratch: Any) -> Any:
    """Keep the places of n-grams that occur twice.

    Return how many; characters of the most frequent n-gram, all its places together; those of n-grams that came before.
    """
    places, count, start = scratch.places, scratch.count, scratch.start
    kept = covered = behind = best = best_chars = 0
    for k in range(found):
        i = places[k]
        same, chars = longer[i], start[i + width] - start[i]
        if count[same] == 1:
            group[i] = longer[i] = -1
            continue
        places[kept] = i
        kept += 1
        if same != i:
            if i >= behind:
                covered += chars
                behind = i + width
        elif count[i] > best or (count[i] == best and chars > best_chars):
            best, best_chars = count[i], chars
    return kept, best * best_chars, covered


@compiled
def _ngrams_of(hashes: Any, lengths: Any, widths: Any, scratch: Any, shares: Any) -> None:
    n, start, groups = len(hashes), scratch.start, scratch.groups
    for i in range(n):
        start[i + 1] = start[i] + lengths[i]
        groups[0, i] = groups[1, i] = -1
    found = 0
    for level in range(len(widths)):
        width = widths[level]
        if width > n:
            break
        group, longer = groups[level & 1], groups[1 - (level & 1)]
        if level == 0:
            found = _sift(hashes, width, scratch)
        else:
            found = _widen(n, width, width - widths[level - 1], found, group, longer, scratch)
        _match(found, longer, scratch)
        found, top, covered = _measure(width, found, group, longer, scratch)
        shares[level] = min(1.0, (top if level < _TOP else covered) / start[n])
        if not found:
            break


@compiled
def _ngrams(units: Any, widths: Any, scratch: Any, shares: Any) -> None:
    for d in range(len(units.ends) - 1):
        first, end = units.ends[d], units.ends[d + 1]
        _ngrams_of(units.hashes[first:end], units.lengths[first:end], widths[d], scratch, shares[d])
