"""The form in which deduplication compares texts, straight from Arrow's UTF-8 buffers.

Two documents that differ only in case, in the width or shape of characters (`slimpajama/text/characters.py`), in
characters that nobody sees or in how lines are wrapped are the same to deduplication. English puts a space or a line
break between words, so a run of white space is one space. Chinese puts one anywhere or nowhere: white space beside an
ideograph, kana or full-width mark is no character. Digits and marks count as what stands before them, so `共 1 2，"好"`
in Chinese has no spaces, and `May 1, 2024` keeps its own.

Python strings reach 19 MB/s here; the kernel works on Arrow's bytes and makes no Python object per document. Every
code point is folded by itself, without context: a word-final capital sigma becomes `σ`, where `str.lower` gives `ς`.
"""

import itertools
import unicodedata
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slimpajama.text.characters import folded
from slimpajama.text.kernels import compiled, decode

SPACE = np.uint8(0x20)
# Characters of ASCII that are copied together: they stay in the nearest cache.
RUN = 4096
# All positions are unsigned: numba checks of every signed index whether it counts from the end.
_ZERO, _ONE, _TWO, _THREE, _FOUR, _EIGHT = (np.uint64(n) for n in (0, 1, 2, 3, 4, 8))
_NOT_ASCII = np.uint64(0x8080808080808080)


class Normalised(NamedTuple):
    """Normalised documents, end to end."""

    utf8: npt.NDArray[np.uint8]
    """Text as UTF-8; document d is `utf8[byte_offsets[d]:byte_offsets[d + 1]]`."""
    byte_offsets: npt.NDArray[np.int64]
    chars: npt.NDArray[np.uint32]
    """The same text as code points; document d is `chars[char_offsets[d]:char_offsets[d + 1]]`."""
    char_offsets: npt.NDArray[np.int64]


# What a character does to white space beside it: keeps it (a letter of a script with spaces), removes it, or, digits
# and marks, what the character before does. The last two are no characters.
LETTER, WIDE, MARK, SPACES, UNSEEN = range(5)
# Ideographs, kana, bopomofo and their punctuation, full and half width; Hangul is written with spaces.
_WIDE = (
    *((0x2E80, 0x3130), (0x3190, 0xA000), (0xF900, 0xFB00), (0xFE30, 0xFE70), (0xFF01, 0xFFA0), (0xFFE0, 0xFFE7)),
    *((0x16FE0, 0x16FF2), (0x1AFF0, 0x1B170), (0x20000, 0x40000)),
)


def _kind(char: str, shown: str) -> int:
    """Return the kind of a character that is compared as `shown`."""
    if not shown:
        return UNSEEN
    if shown == " ":
        return SPACES
    if any(map(_in_wide, shown)):
        return WIDE
    if any(map(str.isalpha, shown)):
        return LETTER
    return WIDE if _in_wide(char) and not shown.isalnum() else MARK


def _in_wide(char: str) -> bool:
    # Most characters lie before all ranges.
    return char >= "\u2e80" and any(first <= ord(char) < end for first, end in _WIDE)


def _is_punctuation(text: str) -> bool:
    return all(unicodedata.category(char)[0] in "PS" for char in text)


@cache
def _seen_as(char: str) -> tuple[int, str]:
    return _kind(char, folded(char)), folded(char)


def normalise(text: str, *, drop_punctuation: bool = False) -> str:
    """Return `text` as it is compared; this is the definition that the kernel is tested against.

    White space is what `str.isspace` and `\\s` call so; there is none at the ends. `drop_punctuation` leaves out what
    Unicode calls punctuation or symbol; all of `string.punctuation` is.
    """
    out, wide, spaced = list[str](), False, True
    for char in text:
        kind, shown = _seen_as(char)
        if kind == UNSEEN or (drop_punctuation and _is_punctuation(shown)):
            continue
        if kind == SPACES:
            if not (wide or spaced):
                out.append(" ")
                spaced = True
            continue
        if kind == WIDE and spaced and out:
            out.pop()
        wide, spaced = kind == WIDE or (kind == MARK and wide), False
        out.append(shown)
    return "".join(out[: len(out) - spaced])


# Bits of a table's entry: the code point or the number of a row of `several`, the kind, and two flags.
_POINT, _KIND, _KINDS = np.uint32(0x1FFFFF), np.uint32(21), np.uint32(7)
_SEVERAL, _PUNCTUATION = 1 << 24, 1 << 25
# Code points from here on have no entry: ideographs, then what is neither letter nor seen.
_END, _BEYOND = 0x2FA20, 0x40000
# Of the others, ideographs and syllables of Hangul all stay as they are.
_LOOKED_AT = ((0, 0x3400), (0x4DC0, 0x4E00), (0xA000, 0xAC00), (0xD7A4, 0x20000), (0x2F800, _END))
_NO_CHARACTER = {"Cn", "Co", "Cs"}
_SELECTORS = (np.uint32(0xE0000), np.uint32(0xE0200))


class Tables(NamedTuple):
    """What each code point becomes."""

    entries: npt.NDArray[np.uint32]
    several: npt.NDArray[np.uint32]
    """[N, 3]: the characters that one becomes, 0 behind the last."""
    blocks: npt.NDArray[np.uint8]
    """Of each 256 code points below 0x10000: 1 if all are wide and stay as they are, 2 if all are letters that do."""


@cache
def tables() -> Tables:
    """Return the tables of the kernel."""
    points = np.arange(_END, dtype=np.uint32)
    entries = points | np.uint32(MARK << 21)
    for first, end in _WIDE:
        entries[first:end] = points[first:end] | np.uint32(WIDE << 21)
    several = list[list[int]]()
    found = {}
    for point in itertools.chain(*map(range, *zip(*_LOOKED_AT, strict=True))):
        char = chr(point)
        # Half of these are not assigned, or private.
        if (category := unicodedata.category(char)) in _NO_CHARACTER:
            continue
        # Most are such letters; `folded` would take its time.
        shown = char if category == "Lo" and not unicodedata.decomposition(char) else folded(char)
        if shown == char != " ":
            kind = WIDE if _in_wide(char) else LETTER if category[0] == "L" else MARK
            found[point] = point | kind << 21 | _PUNCTUATION * (category[0] in "PS")
            continue
        if len(shown) > 1:
            entry, punctuation = len(several) | _SEVERAL, _is_punctuation(shown)
            several.append([*map(ord, shown), 0][:3])
        else:
            entry, punctuation = ord(shown or "\0"), _is_punctuation(shown)
        found[point] = entry | _kind(char, shown) << 21 | _PUNCTUATION * punctuation
    entries[list(found)] = list(found.values())
    # Syllables of Hangul.
    entries[0xAC00:0xD7A4] = points[0xAC00:0xD7A4] | np.uint32(LETTER << 21)
    by_block = [(entries[:0x10000] == points[:0x10000] | np.uint32(kind << 21)) for kind in (WIDE, LETTER)]
    wide, letters = (same.reshape(-1, 256).all(axis=1) for same in by_block)
    # Those below take less than three bytes.
    blocks = np.where(np.arange(256) < 8, 0, wide + 2 * letters).astype(np.uint8)
    return Tables(entries, np.array(several, np.uint32), blocks)


def normalise_block(
    offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], *, drop_punctuation: bool = False
) -> Normalised:
    """Normalise documents of one block, given as `text_buffers` has them.

    Bytes that are no UTF-8 are taken as Latin-1, so that nothing is read out of bounds.
    """
    n, size = len(offsets) - 1, int(offsets[-1] - offsets[0])
    # `folded` and stray bytes at most double the bytes, and give no more characters than there were bytes.
    utf8 = np.empty(2 * size, np.uint8)
    chars = np.empty(size, np.uint32)
    byte_offsets, char_offsets = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    _normalise(offsets, data, tables(), drop_punctuation, utf8, byte_offsets, chars, char_offsets)
    return Normalised(utf8[: byte_offsets[-1]], byte_offsets, chars[: char_offsets[-1]], char_offsets)


@compiled(inline=True)
def _encode(out: Any, j: Any, c: Any) -> Any:
    """Write a code point as UTF-8 at `out[j]` and return the position behind it."""
    if c < 0x80:
        out[j] = c
        return j + _ONE
    if c < 0x800:
        out[j] = 0xC0 | (c >> 6)
        out[j + _ONE] = 0x80 | (c & 0x3F)
        return j + _TWO
    if c < 0x10000:
        out[j] = 0xE0 | (c >> 12)
        out[j + _ONE] = 0x80 | ((c >> 6) & 0x3F)
        out[j + _TWO] = 0x80 | (c & 0x3F)
        return j + _THREE
    out[j] = 0xF0 | (c >> 18)
    out[j + _ONE] = 0x80 | ((c >> 12) & 0x3F)
    out[j + _TWO] = 0x80 | ((c >> 6) & 0x3F)
    out[j + _THREE] = 0x80 | (c & 0x3F)
    return j + _FOUR


@compiled
def _ascii_end(data: Any, i: Any, end: Any) -> Any:
    """Return where the ASCII that begins at `i` ends, eight bytes at a time."""
    while i + _EIGHT <= end:
        word = _ZERO
        for k in range(8):
            word |= np.uint64(data[i + np.uint64(k)]) << np.uint64(8 * k)
        if word & _NOT_ASCII:
            break
        i += _EIGHT
    while i < end and data[i] < 0x80:
        i += _ONE
    return i


@compiled
def _lower_ascii(text: Any, out: Any) -> None:
    for i in range(len(text)):
        c = text[i]
        lowered = np.uint8(c + np.uint8(32)) if np.uint8(c - np.uint8(65)) < np.uint8(26) else c  # A to Z
        space = (np.uint8(c - np.uint8(9)) < np.uint8(5)) | (np.uint8(c - np.uint8(28)) < np.uint8(5))
        out[i] = SPACE if space else lowered


@compiled
def _squeeze(text: Any, last: Any, out: Any) -> Any:
    """Leave out each space behind another; return the length, and the last character."""
    n = _ZERO
    for i in range(len(text)):
        c = text[i]
        out[n] = c
        n += np.uint64((c != SPACE) | (last != SPACE))
        last = c
    return n, last


@compiled
def _widen(text: Any, out: Any) -> None:
    for i in range(len(text)):
        out[i] = text[i]


@compiled(allocates=True)
def _normalise(
    offsets: Any, data: Any, tables: Any, drop: bool, utf8: Any, byte_offsets: Any, chars: Any, char_offsets: Any
) -> None:
    lowered = np.empty(RUN, np.uint8)
    for d in range(len(offsets) - 1):
        j, k, text = byte_offsets[d], char_offsets[d], data[offsets[d] : offsets[d + 1]]
        n_bytes, n_chars = _normalise_text(text, tables, drop, lowered, utf8[j:], chars[k:])
        byte_offsets[d + 1], char_offsets[d + 1] = j + np.int64(n_bytes), k + np.int64(n_chars)


@compiled(inline=True)
def _entry(text: Any, i: Any, end: Any, entries: Any) -> Any:
    """Return the entry of the character at `i`, and its length in bytes."""
    b = text[i]
    length = _ONE if b < 0x80 else _TWO if b < 0xE0 else _THREE if b < 0xF0 else _FOUR
    if (b >= 0x80 and b < 0xC0) or b > 0xF7 or i + length > end:
        return np.uint32(b) | np.uint32(MARK << 21), _ONE
    c, _ = decode(text, np.int64(i))
    if c < _END:
        return entries[c], length
    if _SELECTORS[0] <= c < _SELECTORS[1]:
        return c | np.uint32(UNSEEN << 21), length
    return c | np.uint32(WIDE << 21 if c < _BEYOND else MARK << 21), length


@compiled(inline=True)
def _write(entry: Any, several: Any, utf8: Any, j: Any, chars: Any, k: Any) -> Any:
    """Write the characters of an entry and return the positions behind them."""
    c = entry & _POINT
    if not entry & np.uint32(_SEVERAL):
        chars[k] = c
        return _encode(utf8, j, c), k + _ONE
    row = np.uint64(c)
    for n in range(several.shape[1]):
        c = several[row, n]
        if c:
            j = _encode(utf8, j, c)
            chars[k] = c
            k += _ONE
    return j, k


@compiled(inline=True)
def _write_ascii(text: Any, i: Any, stop: Any, lowered: Any, entries: Any, spaced: Any, utf8: Any, chars: Any) -> Any:
    """Write a run of ASCII and return its length there, and whether a space is the last of it."""
    if stop - i >= np.uint64(16):
        _lower_ascii(text[i:stop], lowered)
        n, last = _squeeze(lowered[: stop - i], SPACE if spaced else np.uint8(0), utf8)
        _widen(utf8[:n], chars)
        return n, last == SPACE
    n = _ZERO
    while i < stop:
        c = np.uint8(entries[text[i]])
        utf8[n] = c
        chars[n] = c
        n += np.uint64((c != SPACE) | (not spaced))
        i, spaced = i + _ONE, c == SPACE
    return n, spaced


@compiled
def _normalise_text(text: Any, tables: Any, drop: bool, lowered: Any, utf8: Any, chars: Any) -> Any:
    """Normalise one document and return its length in bytes and in characters.

    What most of a text is has a path of its own. Long runs of ASCII take three passes, two of which the compiler makes
    vector code of: 0.95 ns a byte instead of 1.9 in the loop for short ones. Characters of three bytes that stay as
    they are, as ideographs do, are copied.
    """
    entries, several, blocks = tables
    # Next byte to read, next free places in utf8 and chars.
    i, j, k, end = _ZERO, _ZERO, _ZERO, np.uint64(len(text))
    # Whether white space is left out here, and whether a space was just written; at the begin none is.
    wide, spaced = False, True
    while i < end:
        b = text[i]
        if b < 0x80 and not wide and not drop:
            stop = _ascii_end(text, i, min(end, i + np.uint64(RUN)))
            n, spaced = _write_ascii(text, i, stop, lowered, entries, spaced, utf8[j:], chars[k:])
            i, j, k = stop, j + n, k + n
            continue
        if b >= 0xE0 and b < 0xF0 and i + _THREE <= end:
            second, third = text[i + _ONE] & np.uint8(0x3F), text[i + _TWO] & np.uint8(0x3F)
            c = (np.uint32(b & 0xF) << np.uint32(12)) | (np.uint32(second) << np.uint32(6)) | np.uint32(third)
            block = blocks[c >> np.uint32(8)]
            if block:
                wide = block == 1
                if spaced:
                    back = np.uint64(wide and k > _ZERO)
                    j, k, spaced = j - back, k - back, False
                utf8[j] = b
                utf8[j + _ONE] = 0x80 | second
                utf8[j + _TWO] = 0x80 | third
                chars[k] = c
                i, j, k = i + _THREE, j + _THREE, k + _ONE
                continue
            entry, length = entries[c], _THREE
        else:
            entry, length = _entry(text, i, end, entries)
        kind = (entry >> _KIND) & _KINDS
        i += length
        if kind == UNSEEN or (drop and entry & np.uint32(_PUNCTUATION)) or (kind == SPACES and (wide or spaced)):
            continue
        back = np.uint64(kind == WIDE and spaced and k > _ZERO)
        j, k = _write(entry, several, utf8, j - back, chars, k - back)
        spaced, wide = kind == SPACES, kind == WIDE or (kind == MARK and wide)
    ends_with_space = np.uint64(spaced and k > _ZERO)
    return j - ends_with_space, k - ends_with_space
