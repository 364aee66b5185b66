"""Units and windows of texts, read in one pass over Arrow's UTF-8 buffers: what overlaps are looked for by.

Texts are compared by *units*, as cleaning counts them: a run of letters and digits, or one ideograph, kana or Hangul
syllable. Two ideographs weigh as much as one word (decision 11). Only units count, so punctuation, white space and
line breaks hide nothing; neither do case, full or half width and radicals (what `characters.folded` makes one character
of), traditional or simplified script (character by character, on both sides) and characters that cannot be seen.

A *window* is `short_words` in a row. Of an evaluation record so many are taken that every stretch of `ngram_words`
holds a whole one. Of held-out documents the windows are sampled by their own hash, one in four, and fewer where there
is much held-out text (`sampling`), which makes them the same ones wherever a text is quoted.
"""

import unicodedata
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import opencc
import pyarrow as pa

from slimpajama.core.config import DecontaminateConfig
from slimpajama.text.buffers import text_buffers
from slimpajama.text.characters import folded
from slimpajama.text.kernels import GOLDEN, HASH_SEED, add_to_hash, compiled, decode

# Held-out text, in bytes, up to which one window in four is taken: about 3 million, 70 bytes each.
FULL_BYTES = 50_000_000
# Flag of a code point that is a unit by itself.
_SINGLE = np.uint32(1 << 31)
_UNSEEN = np.uint32(1)
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
        shown = folded(char)
        if not shown:
            table[point] = _UNSEEN
            continue
        shown = shown if len(shown) == 1 else char.lower()[0]
        if unicodedata.category(shown)[0] in "LMN":
            table[point] = ord(shown)
            if unicodedata.name(shown, "").startswith(_SINGLES):
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


def sampling(held_out_bytes: int) -> int:
    """Return 4, or the power of two that leaves no more windows than FULL_BYTES have at 4: one in so many is taken.

    The index then stays in bounded memory. A document needs LEAST_WINDOWS of them: at one in 64, as for 0.8 GB of
    held-out text, those of under 200 words or so are no longer looked for.
    """
    return 4 << max(0, -(-held_out_bytes // FULL_BYTES) - 1).bit_length()


def cut(texts: pa.LargeStringArray, cfg: DecontaminateConfig) -> Windows:
    """Return the windows of evaluation records, and their units.

    The first begins with the first unit, each other one at most `2 * (ngram_words - short_words)` half words after
    the one before, which is what makes every stretch of `ngram_words` hold a whole one.
    """
    return _windows(texts, cfg, 2 * (cfg.ngram_words - cfg.short_words), 1)


def sample(texts: pa.LargeStringArray, cfg: DecontaminateConfig, rate: int = 4) -> Windows:
    """Return one in `rate` windows of held-out documents, each hash once a document, without units."""
    found = _windows(texts, cfg, -1, rate)
    owner = np.repeat(np.arange(len(texts)), np.diff(found.ends))
    order = np.lexsort((found.hashes, owner))
    hashes = found.hashes[order]
    first = np.append(True, (hashes[1:] != hashes[:-1]) | (owner[1:] != owner[:-1]))[: len(hashes)]
    ends = np.searchsorted(owner[first], np.arange(len(texts) + 1))
    return found._replace(ends=ends, hashes=hashes[first], places=found.places[order][first])


def _windows(texts: pa.LargeStringArray, cfg: DecontaminateConfig, step: int, rate: int) -> Windows:
    offsets, data = text_buffers(texts)
    n, most = len(texts), int(offsets[-1] - offsets[0]) // 2 + len(texts)
    found = Windows(
        ends=np.zeros(n + 1, np.int64),
        hashes=np.empty(most, np.uint64),
        places=np.empty(most, np.int32),
        unit_ends=np.zeros(n + 1, np.int64),
        units=np.empty(most if step >= 0 else 0, np.uint64),
        weights=np.zeros(n, np.int32),
    )
    _cut(offsets, data, code_table(), 2 * cfg.short_words, step, np.uint64(rate - 1), found)
    windows, units = found.ends[-1], found.unit_ends[-1]
    return found._replace(
        hashes=found.hashes[:windows].copy(), places=found.places[:windows].copy(), units=found.units[:units].copy()
    )


@compiled(inline=True)
def mixed(value: Any) -> Any:
    """Return a hash whose bits all depend on all bits of `value`."""
    value = (value ^ (value >> np.uint64(32))) * np.uint64(0xFF51AFD7ED558CCD)
    return value ^ (value >> np.uint64(29))


class Text(NamedTuple):
    """Units of one text: working memory that has room for the longest."""

    units: Any
    """uint64: hash of each unit."""
    before: Any
    """int32: half words before each unit, and of all."""
    starts: Any
    """int32: first byte of each unit, from the text's begin."""
    stops: Any


@compiled(allocates=True)
def new_text(offsets: Any) -> Any:
    """Return working memory for the longest of some texts."""
    most = 0
    for d in range(len(offsets) - 1):
        most = max(most, offsets[d + 1] - offsets[d])
    most = most // 2 + 2
    return Text(
        np.empty(most, np.uint64), np.empty(most + 1, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
    )


@compiled
def read_units(data: Any, begin: Any, end: Any, codes: Any, text: Any) -> int:
    """Write a text's units and return how many there are."""
    units, before, starts, stops = text
    n = 0
    before[0] = 0
    word, inside = HASH_SEED, False
    i = begin
    while i < end:
        at = i
        c, length = decode(data, i)
        i += length
        code = codes[c]
        if code > _UNSEEN and code < _SINGLE:
            if not inside:
                word, inside = HASH_SEED, True
                starts[n] = at - begin
            word = add_to_hash(word, code)
            # The rest of a word in ASCII.
            while i < end and data[i] < 0x80 and codes[data[i]] > _UNSEEN:
                word = add_to_hash(word, codes[data[i]])
                i += 1
            stops[n] = i - begin
            continue
        if code == _UNSEEN:
            continue
        if inside:
            units[n] = mixed(word)
            before[n + 1] = before[n] + 2
            n += 1
            inside = False
        if code:
            units[n] = mixed(add_to_hash(HASH_SEED, code))
            before[n + 1] = before[n] + 1
            starts[n], stops[n] = at - begin, i - begin
            n += 1
    if inside:
        units[n] = mixed(word)
        before[n + 1] = before[n] + 2
        n += 1
    return n


@compiled(allocates=True)
def _cut(offsets: Any, data: Any, codes: Any, half_words: int, step: int, mask: Any, found: Any) -> None:
    """Write the windows of all texts; a negative `step` leaves their units out and takes every window."""
    text = new_text(offsets)
    for d in range(len(offsets) - 1):
        n = read_units(data, offsets[d], offsets[d + 1], codes, text)
        _cut_text(text, n, half_words, step, mask, found, d)
        u = found.unit_ends[d]
        if step >= 0:
            found.units[u : u + n] = text.units[:n]
            u += n
        found.unit_ends[d + 1] = u


@compiled
def _cut_text(text: Any, n: int, half_words: int, step: int, mask: Any, found: Any, d: int) -> None:
    w = found.ends[d]
    found.weights[d] = text.before[n]
    i = 0
    while i < n and text.before[n] - text.before[i] >= half_words:
        value, j = np.uint64(0), i
        while text.before[j] - text.before[i] < half_words:
            value = value * GOLDEN + text.units[j]
            j += 1
        found.hashes[w], found.places[w] = mixed(value), i
        w += not found.hashes[w] & mask
        i, at = i + 1, text.before[i]
        while i + 1 < n and text.before[i + 1] - at <= step:
            i += 1
    found.ends[d + 1] = w
