"""Lower case and squeezed white space, straight from Arrow's UTF-8 buffers.

Two documents that differ only in case or white space are the same to deduplication. Python strings reach
19 MB/s here; the kernel works on Arrow's bytes and makes no Python object per document.

Every code point is lowered by itself, without context: a word-final capital sigma becomes `σ`, where
`str.lower` gives `ς` after looking around it. So a shingle depends on its own characters only, and a text cut
in two normalises to the same shingles as the whole. `İ` is the one code point that lowers to two.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.text.kernels import compiled, decode

SPACE = np.uint8(0x20)
# `İ`, lowers to `i` and the combining dot above.
DOTTED_I = 0x130
COMBINING_DOT = np.uint32(0x307)
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


def normalise(text: str) -> str:
    """Return `text` in lower case, each run of white space as one space, none at the ends.

    White space is what `str.isspace` and `\\s` call so. This is the definition that the kernel is tested against.
    """
    return " ".join("".join(c.lower() for c in text).split())


def without_punctuation(texts: pa.LargeStringArray) -> pa.LargeStringArray:
    """Return the texts without what Unicode calls punctuation or symbol; all of `string.punctuation` is."""
    return pc.replace_substring_regex(texts, r"[\p{P}\p{S}]+", "")


def _fold_table() -> npt.NDArray[np.uint32]:
    """Return the code point that each code point becomes; those beyond the table stay as they are."""
    lowered = [SPACE if chr(c).isspace() else ord(chr(c).lower()[0]) for c in range(0x20000)]
    changed = np.flatnonzero(np.array(lowered, np.uint32) != np.arange(0x20000, dtype=np.uint32))
    return np.array(lowered[: changed[-1] + 1], np.uint32)


_FOLD = _fold_table()
# Code points from here on take three bytes.
_SHORT = np.uint32(0x800)
# Of each 256 code points below 0x10000: whether one of them changes, or takes less than three bytes.
_FOLDS = (_FOLD[:0x10000] != np.arange(0x10000)).reshape(-1, 256).any(axis=1) | (np.arange(256) < _SHORT // 256)


def normalise_block(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]) -> Normalised:
    """Normalise documents of one block, given as `text_buffers` has them.

    Bytes that are no UTF-8 are taken as Latin-1, so that nothing is read out of bounds.
    """
    n, size = len(offsets) - 1, int(offsets[-1] - offsets[0])
    # Only stray bytes double; `İ` and two others grow from 2 bytes to 3.
    utf8 = np.empty(2 * size, np.uint8)
    chars = np.empty(size, np.uint32)
    byte_offsets, char_offsets = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    _normalise(offsets, data, _FOLD, _FOLDS, utf8, byte_offsets, chars, char_offsets)
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
    offsets: Any, data: Any, fold: Any, folds: Any, utf8: Any, byte_offsets: Any, chars: Any, char_offsets: Any
) -> None:
    lowered = np.empty(RUN, np.uint8)
    for d in range(len(offsets) - 1):
        j, k, text = byte_offsets[d], char_offsets[d], data[offsets[d] : offsets[d + 1]]
        n_bytes, n_chars = _normalise_text(text, fold, folds, lowered, utf8[j:], chars[k:])
        byte_offsets[d + 1], char_offsets[d + 1] = j + np.int64(n_bytes), k + np.int64(n_chars)


@compiled
def _normalise_text(text: Any, fold: Any, folds: Any, lowered: Any, utf8: Any, chars: Any) -> Any:
    """Normalise one document and return its length in bytes and in characters.

    What most of a text is has a path of its own. Long runs of ASCII take three passes, two of which the compiler makes
    vector code of: 0.95 ns a byte instead of 1.9 in the loop for short ones. Characters of three bytes that stay as
    they are, as ideographs do, are copied.
    """
    # Next byte to read, next free places in utf8 and chars.
    i, j, k, end = _ZERO, _ZERO, _ZERO, np.uint64(len(text))
    # So that leading white space is not written; otherwise any other character is as good.
    last = SPACE
    while i < end:
        b = text[i]
        if b < 0x80:
            stop = _ascii_end(text, i, min(end, i + np.uint64(RUN)))
            if stop - i >= np.uint64(16):
                _lower_ascii(text[i:stop], lowered)
                n, last = _squeeze(lowered[: stop - i], last, utf8[j:])
                _widen(utf8[j : j + n], chars[k:])
                i, j, k = stop, j + n, k + n
                continue
            while i < stop:
                c8 = np.uint8(fold[text[i]])
                utf8[j] = c8
                chars[k] = c8
                n = np.uint64((c8 != SPACE) | (last != SPACE))
                i, j, k, last = i + _ONE, j + n, k + n, c8
            continue
        if b >= 0xE0 and b < 0xF0 and i + _THREE <= end:
            second, third = text[i + _ONE] & np.uint8(0x3F), text[i + _TWO] & np.uint8(0x3F)
            c = (np.uint32(b & 0xF) << np.uint32(12)) | (np.uint32(second) << np.uint32(6)) | np.uint32(third)
            if not folds[c >> np.uint32(8)]:
                utf8[j] = b
                utf8[j + _ONE] = 0x80 | second
                utf8[j + _TWO] = 0x80 | third
                chars[k] = c
                i, j, k, last = i + _THREE, j + _THREE, k + _ONE, b
                continue
        c = np.uint32(b)
        length = _TWO if b < 0xE0 else _THREE if b < 0xF0 else _FOUR
        if b < 0xC0 or b > 0xF7 or i + length > end:
            length = _ONE
        else:
            c, _ = decode(text, np.int64(i))
        i += length
        dotted = c == DOTTED_I
        if c < len(fold):
            c = fold[c]
        if c == SPACE and last == SPACE:
            continue
        j = _encode(utf8, j, c)
        chars[k] = c
        k += _ONE
        if dotted:
            j = _encode(utf8, j, COMBINING_DOT)
            chars[k] = COMBINING_DOT
            k += _ONE
        last = SPACE if c == SPACE else b
    ends_with_space = np.uint64(last == SPACE and k > _ZERO)
    return j - ends_with_space, k - ends_with_space
