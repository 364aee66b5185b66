"""Stretches of text that two texts share, found in one pass over Arrow's UTF-8 buffers.

Texts are compared by *units*, as cleaning counts them: a run of letters and digits, or one ideograph, kana or Hangul
syllable. Two ideographs weigh as much as one word (docs/decisions/how-is-chinese-measured.md). Only units count, so
punctuation, white space and line breaks hide nothing; neither do case, full or half width (NFKC, where it gives one
character), traditional or simplified script (character by character, on both sides) and characters that cannot be seen.

A *window* is `short_words` in a row. Of an evaluation record so many are taken that every stretch of `ngram_words`
holds a whole one; a document's windows are looked up by hash, and a hit is extended unit by unit on both sides. So a
removal rests on all units of the stretch being equal (64-bit hashes each), not on one hash. Of held-out documents the
windows are sampled by their own hash, one in four, and fewer where there is much held-out text (`sampling`), which
makes them the same ones wherever a text is quoted; those met are counted.

No kernel calls a kernel of another module: numba's cache notices changes of a kernel's own file only.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import opencc
import pyarrow as pa

from slimpajama.text.buffers import text_buffers

# Of units, hashes and windows.
VERSION = 2
# Of a held-out document, that must be met: one or two are a phrase.
LEAST_WINDOWS = 3
# held-out documents may share a window; what more of them have is boilerplate and says nothing of any.
COMMON = 2
# Of held-out text, up to which one window in four is taken: about 3 million, 70 bytes each.
FULL_BYTES = 50_000_000
# Flag of a code point that is a unit by itself.
_SINGLE = np.uint32(1 << 31)
_BORDER, _UNSEEN = np.uint32(0), np.uint32(1)
_SEED, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a, over code points
_SIX_BITS = np.uint64(63)
# Of the rolling hash over units.
_BASE = np.uint64(0x9E3779B97F4A7C15)
_SINGLES = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HANGUL")  # how their names begin


@cache
def code_table() -> npt.NDArray[np.uint32]:
    """Return what each code point counts as, uint32 of shape (0x110000,).

    0 between units, 1 not seen at all, else the character that it is compared as, flagged where that is a unit.
    """
    table = np.zeros(0x110000, np.uint32)
    singles = []
    for point in (*range(0xD800), *range(0xE000, 0x40000), *range(0xE0000, 0xE0200)):
        char = chr(point)
        category = unicodedata.category(char)
        # The last two: variation selectors.
        if category == "Cf" or 0xFE00 <= point <= 0xFE0F or point >= 0xE0000:
            table[point] = _UNSEEN
        elif category[0] in "LMN":
            folded = unicodedata.normalize("NFKC", char)
            folded = (folded if len(folded) == 1 else char).lower()[0]
            table[point] = ord(folded)
            if unicodedata.name(folded, "").startswith(_SINGLES):
                singles.append(point)
    plain = opencc.OpenCC("t2s").convert("\n".join(chr(table[point]) for point in singles)).split("\n")
    table[singles] = np.array([ord(char) for char in plain], np.uint32) | _SINGLE
    return table


class Windows(NamedTuple):
    """Windows of N texts, and their units where places in them are needed."""

    ends: npt.NDArray[np.int64]
    """[N + 1]: text t has `hashes[ends[t]:ends[t + 1]]`; no window fits a text that is too short."""
    hashes: npt.NDArray[np.uint64]
    places: npt.NDArray[np.int32]
    """Number of the text's unit that the window begins with."""
    unit_ends: npt.NDArray[np.int64]
    """[N + 1], as `ends`."""
    units: npt.NDArray[np.uint64]
    weights: npt.NDArray[np.int32]
    """[N]: of each text in half words."""


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
    rate: int
    """One in so many windows of a held-out document is looked for."""


def sampling(held_out_bytes: int) -> int:
    """Return 4, or the power of two that leaves no more windows than FULL_BYTES have at 4: one in so many is taken.

    The index then stays in bounded memory. A document needs LEAST_WINDOWS of them: at one in 64, as for 0.8 GB of
    held-out text, those of under 200 words or so are no longer looked for.
    """
    return 4 << max(0, -(-held_out_bytes // FULL_BYTES) - 1).bit_length()


def cut(texts: pa.LargeStringArray, ngram_words: int, short_words: int) -> Windows:
    """Return the windows of evaluation records, and their units.

    The first begins with the first unit, each other one at most `2 * (ngram_words - short_words)` half words after
    the one before, which is what makes every stretch of `ngram_words` hold a whole one.
    """
    return _windows(texts, short_words, 2 * (ngram_words - short_words), 1)


def sample(texts: pa.LargeStringArray, short_words: int, rate: int = 4) -> Windows:
    """Return one in `rate` windows of held-out documents, each hash once a document, without units."""
    found = _windows(texts, short_words, -1, rate)
    owner = np.repeat(np.arange(len(texts)), np.diff(found.ends))
    order = np.lexsort((found.hashes, owner))
    hashes = found.hashes[order]
    first = np.append(True, (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1]))[: len(hashes)]
    ends = np.searchsorted(owner[first], np.arange(len(texts) + 1))
    return found._replace(ends=ends, hashes=hashes[first], places=found.places[order][first])


def _windows(texts: pa.LargeStringArray, short_words: int, step: int, rate: int) -> Windows:
    offsets, data = text_buffers(texts)
    n, most = len(texts), int(offsets[-1] - offsets[0]) // 2 + len(texts)
    ends, unit_ends = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    hashes, places, weights = np.empty(most, np.uint64), np.empty(most, np.int32), np.zeros(n, np.int32)
    units = np.empty(most if step >= 0 else 0, np.uint64)
    mask = np.uint64(rate - 1)
    _cut(offsets, data, code_table(), 2 * short_words, step, mask, ends, hashes, places, unit_ends, units, weights)
    return Windows(
        ends, hashes[: ends[-1]].copy(), places[: ends[-1]].copy(), unit_ends, units[: unit_ends[-1]].copy(), weights
    )


def make_index(
    records: Windows, held_out: Iterable[Windows], ngram_words: int, short_words: int, share: float, rate: int = 4
) -> Index:
    """Return what `find` looks for.

    Args:
        records: Of evaluation files, with units.
        held_out: Of held-out documents.
        ngram_words: Words in a row that make an overlap with a record; a shorter record must be there as a whole.
        short_words: Words in a window.
        share: Of a held-out document's windows, that make an overlap with it.
        rate: What `sample` was given.
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
    need = np.maximum(np.ceil(share * windows), LEAST_WINDOWS).astype(np.int32)
    need[:n_records] = np.minimum(records.weights, 2 * ngram_words)
    # Up to 8 windows a word: small enough to stay in a near cache.
    bits = max(10, len(hashes).bit_length() - 3)
    words = hashes >> np.uint64(64 - bits)
    marks = np.zeros(1 << bits, np.uint64)
    two = (np.uint64(1) << (hashes & _SIX_BITS)) | (np.uint64(1) << ((hashes >> np.uint64(6)) & _SIX_BITS))
    np.bitwise_or.at(marks, words, two)
    starts = np.searchsorted(words, np.arange(len(marks), dtype=np.uint64)).astype(np.int32)
    units = (records.unit_ends, records.units)
    return Index(hashes, items, places, marks, starts, *units, need, windows, 2 * short_words, rate)


def find(texts: pa.LargeStringArray, held_out: npt.NDArray[np.bool_], index: Index) -> Match:
    """Return what documents share with the index: the first evaluation record, else the first held-out document.

    Args:
        texts: Documents.
        held_out: bool [N]: of documents that are held out themselves only records are looked for.
        index: From `make_index`.
    """
    offsets, data = text_buffers(texts)
    n = len(texts)
    match = Match(np.full(n, -1, np.int32), np.zeros(n, np.int64), np.zeros(n, np.int64), np.zeros(n, np.int32))
    _find(
        offsets,
        data,
        code_table(),
        held_out,
        index.hashes,
        index.items,
        index.places,
        index.filter,
        index.starts,
        index.unit_ends,
        index.units,
        index.need,
        index.half_words,
        np.uint64(index.rate - 1),
        *match,
    )
    return match


@numba.njit(nogil=True, cache=True, inline="always")
def _mixed(value: Any) -> Any:
    value = (value ^ (value >> np.uint64(32))) * np.uint64(0xFF51AFD7ED558CCD)
    return value ^ (value >> np.uint64(29))


@numba.njit(nogil=True, cache=True)
def _units(data: Any, begin: Any, end: Any, codes: Any, units: Any, before: Any, starts: Any, stops: Any) -> int:
    """Write a text's units, the half words before each and the bytes each takes; return how many there are."""
    n = 0
    before[0] = 0
    word, inside = _SEED, False
    i = begin
    while i < end:
        at = i
        c = np.uint32(data[i])
        if c < 0x80:
            i += 1
        elif c < 0xE0:
            c = ((c & np.uint32(0x1F)) << np.uint32(6)) | np.uint32(data[i + 1] & 0x3F)
            i += 2
        elif c < 0xF0:
            c = ((c & np.uint32(0x0F)) << np.uint32(12)) | (np.uint32(data[i + 1] & 0x3F) << np.uint32(6))
            c |= np.uint32(data[i + 2] & 0x3F)
            i += 3
        else:
            c = ((c & np.uint32(0x07)) << np.uint32(18)) | (np.uint32(data[i + 1] & 0x3F) << np.uint32(12))
            c |= (np.uint32(data[i + 2] & 0x3F) << np.uint32(6)) | np.uint32(data[i + 3] & 0x3F)
            i += 4
        code = codes[c]
        if code > _UNSEEN and code < _SINGLE:
            if not inside:
                word, inside = _SEED, True
                starts[n] = at - begin
            word = (word ^ np.uint64(code)) * _PRIME
            # The rest of a word in ASCII.
            while i < end and data[i] < 0x80 and codes[data[i]] > _UNSEEN:
                word = (word ^ np.uint64(codes[data[i]])) * _PRIME
                i += 1
            stops[n] = i - begin
            continue
        if code == _UNSEEN:
            continue
        if inside:
            units[n] = _mixed(word)
            before[n + 1] = before[n] + 2
            n += 1
            inside = False
        if code:
            units[n] = _mixed((_SEED ^ np.uint64(code)) * _PRIME)
            before[n + 1] = before[n] + 1
            starts[n], stops[n] = at - begin, i - begin
            n += 1
    if inside:
        units[n] = _mixed(word)
        before[n + 1] = before[n] + 2
        n += 1
    return n


@numba.njit(nogil=True, cache=True)
def _powers(most: int) -> Any:
    powers = np.ones(most + 1, np.uint64)
    for k in range(most):
        powers[k + 1] = powers[k] * _BASE
    return powers


@numba.njit(nogil=True, cache=True)
def _longest(offsets: Any) -> int:
    most = 0
    for d in range(len(offsets) - 1):
        most = max(most, offsets[d + 1] - offsets[d])
    return most // 2 + 2


@numba.njit(nogil=True, cache=True)
def _cut(
    offsets: Any,
    data: Any,
    codes: Any,
    half_words: int,
    step: int,
    mask: Any,
    ends: Any,
    hashes: Any,
    places: Any,
    unit_ends: Any,
    all_units: Any,
    weights: Any,
) -> None:
    most = _longest(offsets)
    units, before = np.empty(most, np.uint64), np.empty(most + 1, np.int32)
    starts, stops = np.empty(most, np.int32), np.empty(most, np.int32)
    w = u = 0
    for d in range(len(offsets) - 1):
        n = _units(data, offsets[d], offsets[d + 1], codes, units, before, starts, stops)
        weights[d] = before[n]
        if step >= 0:
            all_units[u : u + n] = units[:n]
            u += n
        i = 0
        while i < n and before[n] - before[i] >= half_words:
            value, j = np.uint64(0), i
            while before[j] - before[i] < half_words:
                value = value * _BASE + units[j]
                j += 1
            hashes[w], places[w] = _mixed(value), i
            w += not hashes[w] & mask
            i, at = i + 1, before[i]
            while i + 1 < n and before[i + 1] - at <= step:
                i += 1
        ends[d + 1], unit_ends[d + 1] = w, u


@numba.njit(nogil=True, cache=True, inline="always")
def _lookup(value: Any, hashes: Any, marks: Any, starts: Any, shift: Any) -> int:
    """Return the first of the windows with this hash, -1 if there is none."""
    word = value >> shift
    mark = marks[word]
    if not (mark >> (value & _SIX_BITS)) & (mark >> ((value >> np.uint64(6)) & _SIX_BITS)) & np.uint64(1):
        return -1
    first = starts[word]
    while first < len(hashes) and hashes[first] < value:
        first += 1
    return first if first < len(hashes) and hashes[first] == value else -1


@numba.njit(nogil=True, cache=True)
def _find(
    offsets: Any,
    data: Any,
    codes: Any,
    held_out: Any,
    hashes: Any,
    items: Any,
    places: Any,
    marks: Any,
    starts_of: Any,
    unit_ends: Any,
    record_units: Any,
    need: Any,
    half_words: int,
    mask: Any,
    item: Any,
    begin: Any,
    end: Any,
    amount: Any,
) -> None:
    most = _longest(offsets)
    units, before = np.empty(most, np.uint64), np.empty(most + 1, np.int32)
    starts, stops = np.empty(most, np.int32), np.empty(most, np.int32)
    # Of windows that are in the index.
    firsts, widths = np.empty(most, np.int32), np.empty(most, np.int32)
    powers = _powers(half_words)
    records = len(unit_ends) - 1
    # The last document that met a window.
    seen = np.full(len(hashes), -1, np.int32)
    met, met_in = np.zeros(len(need), np.int32), np.full(len(need), -1, np.int32)
    shift = np.uint64(64)
    size = len(marks)
    while size > 1:
        size >>= 1
        shift -= np.uint64(1)
    for d in range(len(offsets) - 1):
        if held_out[d] and not records:
            continue
        n = _units(data, offsets[d], offsets[d + 1], codes, units, before, starts, stops)
        rolling, j, hits = np.uint64(0), 0, 0
        found = -1
        for i in range(n):
            while j < n and before[j] - before[i] < half_words:
                rolling = rolling * _BASE + units[j]
                j += 1
            if before[j] - before[i] < half_words:
                break
            value = _mixed(rolling)
            rolling -= units[i] * powers[j - i - 1]
            if value & mask and not records:
                continue
            first = _lookup(value, hashes, marks, starts_of, shift)
            if first < 0:
                continue
            firsts[hits], widths[hits] = i, j - i
            hits += 1
            e = first
            while e < len(hashes) and hashes[e] == value:
                one = items[e]
                if one >= records:
                    if not held_out[d] and seen[e] != d:
                        seen[e] = d
                        if met_in[one] != d:
                            met_in[one], met[one] = d, 0
                        met[one] += 1
                        if met[one] >= need[one] and found < 0:
                            found = one
                else:
                    low, high = unit_ends[one], unit_ends[one + 1]
                    place = low + places[e]
                    a = b = 0
                    while i + b < n and place + b < high and units[i + b] == record_units[place + b]:
                        b += 1
                    while i - a > 0 and place - a > low and units[i - a - 1] == record_units[place - a - 1]:
                        a += 1
                    weight = before[i + b] - before[i - a]
                    if b and weight >= need[one]:
                        found = one
                        item[d], amount[d] = one, weight
                        begin[d], end[d] = starts[i - a], stops[i + b - 1]
                        break
                e += 1
            if found >= 0 and found < records:
                break
        if found >= records:
            item[d], amount[d] = found, met[found]
            from_, to = 0, -1
            for k in range(hits):
                i = firsts[k]
                value = np.uint64(0)
                for m in range(i, i + widths[k]):
                    value = value * _BASE + units[m]
                e = _lookup(_mixed(value), hashes, marks, starts_of, shift)
                value = hashes[e]
                while e < len(hashes) and hashes[e] == value and items[e] != found:
                    e += 1
                if e == len(hashes) or hashes[e] != value:
                    continue
                # Not where the stretch before ends: a new one.
                if i > to + half_words:
                    from_ = i
                to = max(to, i + widths[k])
                if stops[to - 1] - starts[from_] > end[d] - begin[d]:
                    begin[d], end[d] = starts[from_], stops[to - 1]
