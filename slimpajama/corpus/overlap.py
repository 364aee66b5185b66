"""Stretches of text that two texts share, found by their windows (`windows.py`).

A document's windows are looked up by hash. One that stands in an evaluation record is extended unit by unit on both
sides: so a removal rests on all units of the stretch being equal (64-bit hashes each), not on one hash. Windows of
held-out documents are counted.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slimpajama.core.config import DecontaminateConfig
from slimpajama.corpus.windows import Windows, code_table, mixed, new_text, read_units
from slimpajama.text.buffers import text_buffers
from slimpajama.text.kernels import GOLDEN, compiled

# Raise it when units, hashes or windows change.
VERSION = 3
# Windows of a held-out document that must be met: one or two are a phrase.
LEAST_WINDOWS = 3
# So many held-out documents may share a window; one that more of them have is boilerplate and says nothing of any.
COMMON = 2
_SIX_BITS = np.uint64(63)


class Match(NamedTuple):
    """What was found in each of N documents."""

    item: npt.NDArray[np.int32]
    """[N]: the evaluation record, or behind these the held-out document, that it overlaps with; -1 for none."""
    begin: npt.NDArray[np.int64]
    """[N]: first byte of the shared stretch, from the document's begin; of several of a held-out document the longest
    as far as sampled windows tell."""
    end: npt.NDArray[np.int64]
    amount: npt.NDArray[np.int32]
    """[N]: half words of the stretch; for a held-out document how many of its windows were met."""


class Index(NamedTuple):
    """What is looked for: first evaluation records, then held-out documents."""

    hashes: npt.NDArray[np.uint64]
    """[W], ascending, so that equal ones are neighbours."""
    items: npt.NDArray[np.int32]
    """[W]."""
    places: npt.NDArray[np.int32]
    """[W]."""
    filter: npt.NDArray[np.uint64]
    """A Bloom filter whose word is told by a hash's leading bits, two of its bits by the last twelve: what is not in
    the index mostly stops here."""
    starts: npt.NDArray[np.int32]
    """For each word of the filter, the first of `hashes` that has these leading bits or larger ones."""
    unit_ends: npt.NDArray[np.int64]
    """[records + 1]."""
    units: npt.NDArray[np.uint64]
    need: npt.NDArray[np.int32]
    """[items]: half words in a row, or windows of a held-out document, from which on it is an overlap."""
    windows: npt.NDArray[np.int32]
    """[items]: windows of each item."""
    half_words: int
    """In a window, at least."""
    powers: npt.NDArray[np.uint64]
    """Of the base of the rolling hash."""
    shift: np.uint64
    """What leaves a hash's leading bits, which tell the filter's word."""
    mask: np.uint64
    """0 in the hash of a held-out document's window that is looked for."""


def make_index(records: Windows, held_out: Iterable[Windows], cfg: DecontaminateConfig, rate: int = 4) -> Index:
    """Return what `find` looks for: windows of evaluation records and of held-out documents.

    An overlap are `cfg.ngram_words` in a row of a record, or all of a shorter one; or `cfg.held_out_share` of a
    held-out document's windows, which were sampled at `rate`.
    """
    parts = [records, *held_out]
    windows = np.concatenate([np.diff(part.ends) for part in parts]).astype(np.int32)
    items = np.repeat(np.arange(len(windows), dtype=np.int32), windows)
    hashes, places = (np.concatenate([getattr(part, name) for part in parts]) for name in ("hashes", "places"))
    order = np.argsort(hashes, kind="stable")
    hashes, items, places = hashes[order], items[order], places[order]
    of_records = items < len(records.weights)
    _, kind = np.unique(hashes, return_inverse=True)
    useful = of_records | (np.bincount(kind, ~of_records)[kind] <= COMMON)
    hashes, items, places = hashes[useful], items[useful], places[useful]
    windows = np.bincount(items, minlength=len(windows)).astype(np.int32)
    n_records = len(records.weights)
    need = np.maximum(np.ceil(cfg.held_out_share * windows), LEAST_WINDOWS).astype(np.int32)
    need[:n_records] = np.minimum(records.weights, 2 * cfg.ngram_words)
    # Up to 8 windows a word: small enough to stay in a near cache.
    bits = max(10, len(hashes).bit_length() - 3)
    shift, marks = np.uint64(64 - bits), np.zeros(1 << bits, np.uint64)
    words = hashes >> shift
    two = (np.uint64(1) << (hashes & _SIX_BITS)) | (np.uint64(1) << ((hashes >> np.uint64(6)) & _SIX_BITS))
    np.bitwise_or.at(marks, words, two)
    starts = np.searchsorted(words, np.arange(len(marks), dtype=np.uint64)).astype(np.int32)
    ends, units, half_words, mask = records.unit_ends, records.units, 2 * cfg.short_words, np.uint64(rate - 1)
    powers = GOLDEN ** np.arange(half_words + 1, dtype=np.uint64)
    return Index(hashes, items, places, marks, starts, ends, units, need, windows, half_words, powers, shift, mask)


def find(texts: pa.LargeStringArray, held_out: npt.NDArray[np.bool_], index: Index) -> Match:
    """Return what documents share with the index: the first evaluation record, else the first held-out document.

    In documents that are `held_out` (bool [N]) themselves only records are looked for.
    """
    offsets, data = text_buffers(texts)
    n = len(texts)
    match = Match(np.full(n, -1, np.int32), np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int32))
    _find(offsets, data, code_table(), held_out, index, match)
    return match


@compiled(inline=True)
def _lookup(value: Any, index: Any) -> Any:
    """Return the first of the index's windows with this hash, -1 if there is none."""
    mark = index.filter[value >> index.shift]
    if not (mark >> (value & _SIX_BITS)) & (mark >> ((value >> np.uint64(6)) & _SIX_BITS)) & np.uint64(1):
        return -1
    first, hashes = index.starts[value >> index.shift], index.hashes
    while first < len(hashes) and hashes[first] < value:
        first += 1
    return first if first < len(hashes) and hashes[first] == value else -1


class _Search(NamedTuple):
    """Working memory of a search."""

    held_out: Any
    firsts: Any
    """int32: unit that each of the document's windows in the index begins with."""
    widths: Any
    """int32: units of each."""
    entries: Any
    """int64: the first of the index's windows with its hash."""
    seen: Any
    """int32 [W]: the last document that met a window."""
    met: Any
    """int32 [items]: windows met, of an item, by the document in `met_in`."""
    met_in: Any


@compiled
def _extend(text: Any, n: int, i: int, index: Any, e: int) -> Any:
    """Return the first unit and the end of the stretch around unit `i` that is shared with a record's window."""
    record, low, high = index.units, index.unit_ends[index.items[e]], index.unit_ends[index.items[e] + 1]
    place = low + index.places[e]
    a = b = 0
    while i + b < n and place + b < high and text.units[i + b] == record[place + b]:
        b += 1
    while i - a > 0 and place - a > low and text.units[i - a - 1] == record[place - a - 1]:
        a += 1
    return (i - a, i + b) if b else (i, i)


@compiled
def _meet(search: Any, need: Any, item: int, e: int, d: int) -> bool:
    """Count a window of a held-out document that was met; return whether they are enough now."""
    if search.seen[e] == d:
        return False
    search.seen[e] = d
    if search.met_in[item] != d:
        search.met_in[item], search.met[item] = d, 0
    search.met[item] += 1
    return bool(search.met[item] >= need[item])


@compiled
def _match_window(text: Any, n: int, i: int, e: int, index: Any, search: Any, match: Any, d: int) -> Any:
    """Compare a document's window at unit `i` with the index's windows from `e` on, which have the same hash.

    Return the evaluation record that the document overlaps with, else the held-out document, else -1.
    """
    found, records, value = -1, len(index.unit_ends) - 1, index.hashes[e]
    while e < len(index.hashes) and index.hashes[e] == value:
        item = index.items[e]
        if item < records:
            first, end = _extend(text, n, i, index, e)
            weight = text.before[end] - text.before[first]
            if end > first and weight >= index.need[item]:
                match.item[d], match.amount[d] = item, weight
                match.begin[d], match.end[d] = text.starts[first], text.stops[end - 1]
                return item
        elif not search.held_out[d] and _meet(search, index.need, item, e, d) and found < 0:
            found = item
        e += 1
    return found


@compiled
def _find_in(text: Any, n: int, index: Any, search: Any, match: Any, d: int) -> Any:
    """Look all windows of a document up; return the item that was found, -1 for none, and the number of hits."""
    records = len(index.unit_ends) - 1
    rolling, j, hits, found = np.uint64(0), 0, 0, -1
    for i in range(n):
        while j < n and text.before[j] - text.before[i] < index.half_words:
            rolling = rolling * GOLDEN + text.units[j]
            j += 1
        if text.before[j] - text.before[i] < index.half_words:
            break
        value = mixed(rolling)
        rolling -= text.units[i] * index.powers[j - i - 1]
        if value & index.mask and not records:
            continue
        e = _lookup(value, index)
        if e < 0:
            continue
        search.firsts[hits], search.widths[hits], search.entries[hits] = i, j - i, e
        hits += 1
        item = _match_window(text, n, i, e, index, search, match, d)
        if 0 <= item < records:
            return item, hits
        if found < 0:
            found = item
    return found, hits


@compiled
def _place_held_out(text: Any, found: int, hits: int, index: Any, search: Any, match: Any, d: int) -> None:
    """Write the longest stretch of windows that a document shares with a held-out document."""
    match.item[d], match.amount[d] = found, search.met[found]
    first, end = 0, -1
    for k in range(hits):
        i, e = search.firsts[k], search.entries[k]
        value = index.hashes[e]
        while e < len(index.hashes) and index.hashes[e] == value and index.items[e] != found:
            e += 1
        if e == len(index.hashes) or index.hashes[e] != value:
            continue
        # Not where the stretch before ends: a new one.
        if i > end + index.half_words:
            first = i
        end = max(end, i + search.widths[k])
        if text.stops[end - 1] - text.starts[first] > match.end[d] - match.begin[d]:
            match.begin[d], match.end[d] = text.starts[first], text.stops[end - 1]


@compiled(allocates=True)
def _new_search(index: Any, held_out: Any, room: int) -> Any:
    return _Search(
        held_out,
        np.empty(room, np.int32),
        np.empty(room, np.int32),
        np.empty(room, np.int64),
        np.full(len(index.hashes), -1, np.int32),
        np.zeros(len(index.need), np.int32),
        np.full(len(index.need), -1, np.int32),
    )


@compiled(allocates=True)
def _find(offsets: Any, data: Any, codes: Any, held_out: Any, index: Any, match: Any) -> None:
    text = new_text(offsets)
    search = _new_search(index, held_out, len(text.units))
    records = len(index.unit_ends) - 1
    for d in range(len(offsets) - 1):
        if held_out[d] and not records:
            continue
        n = read_units(data, offsets[d], offsets[d + 1], codes, text)
        found, hits = _find_in(text, n, index, search, match, d)
        if found >= records:
            _place_held_out(text, found, hits, index, search, match, d)
