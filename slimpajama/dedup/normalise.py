"""Lower case and squeezed white space, straight from Arrow's UTF-8 buffers.

Two documents that differ only in case or white space are the same to deduplication. Python strings reach
19 MB/s here; the kernel works on Arrow's bytes and makes no Python object per document.

Every code point is lowered by itself, without context: a word-final capital sigma becomes `σ`, where
`str.lower` gives `ς` after looking around it. So a shingle depends on its own characters only, and a text cut
in two normalises to the same shingles as the whole. `İ` is the one code point that lowers to two.

No kernel of this package calls a kernel of another module: numba's cache on disk notices changes of a
kernel's own file only, and would go on running the old callee.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["Normalised", "normalise", "normalise_block", "without_punctuation"]

SPACE = 0x20
DOTTED_I = 0x130  # `İ`, lowers to `i` and the combining dot above
COMBINING_DOT = 0x307


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


def normalise_block(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]) -> Normalised:
    """Normalise documents of one block.

    Args:
        offsets: int64 [N + 1], where each document begins in `data`.
        data: uint8, UTF-8. Bytes that are no UTF-8 are taken as Latin-1, so that nothing is read out of bounds.
    """
    n, size = len(offsets) - 1, int(offsets[-1] - offsets[0])
    utf8 = np.empty(2 * size, np.uint8)  # only stray bytes double; `İ` and two others grow from 2 bytes to 3
    chars = np.empty(size, np.uint32)
    byte_offsets, char_offsets = np.zeros(n + 1, np.int64), np.zeros(n + 1, np.int64)
    _normalise(offsets, data, _FOLD, utf8, byte_offsets, chars, char_offsets)
    return Normalised(utf8[: byte_offsets[-1]], byte_offsets, chars[: char_offsets[-1]], char_offsets)


@numba.njit(nogil=True, cache=True, inline="always")
def _decode(data: Any, i: int, end: int) -> Any:
    """Return the code point at a byte >= 0x80 and its length in bytes."""
    b = np.uint32(data[i])
    length = 2 if b < 0xE0 else 3 if b < 0xF0 else 4
    if b < 0xC0 or b > 0xF7 or i + length > end:
        return b, 1
    c = b & np.uint32(0xFF >> (length + 1))
    for k in range(1, length):
        c = (c << np.uint32(6)) | np.uint32(data[i + k] & 0x3F)
    return np.uint32(c), length


@numba.njit(nogil=True, cache=True, inline="always")
def _encode(out: Any, j: int, c: Any) -> int:
    """Write a code point as UTF-8 at `out[j]` and return the position behind it."""
    if c < 0x80:
        out[j] = c
        return j + 1
    if c < 0x800:
        out[j] = 0xC0 | (c >> 6)
        out[j + 1] = 0x80 | (c & 0x3F)
        return j + 2
    if c < 0x10000:
        out[j] = 0xE0 | (c >> 12)
        out[j + 1] = 0x80 | ((c >> 6) & 0x3F)
        out[j + 2] = 0x80 | (c & 0x3F)
        return j + 3
    out[j] = 0xF0 | (c >> 18)
    out[j + 1] = 0x80 | ((c >> 12) & 0x3F)
    out[j + 2] = 0x80 | ((c >> 6) & 0x3F)
    out[j + 3] = 0x80 | (c & 0x3F)
    return j + 4


@numba.njit(nogil=True, cache=True)
def _normalise(offsets: Any, data: Any, fold: Any, utf8: Any, byte_offsets: Any, chars: Any, char_offsets: Any) -> None:
    j, k = 0, 0  # next free place in utf8 and chars
    for d in range(len(offsets) - 1):
        i, end, first = offsets[d], offsets[d + 1], k
        after_space = True  # so that leading white space is not written
        while i < end:
            b = data[i]
            if b < 0x80:
                c = fold[b]
                is_space = c == SPACE
                utf8[j] = c
                chars[k] = c
                step = 0 if is_space and after_space else 1
                j += step
                k += step
                after_space = is_space
                i += 1
                continue
            c, length = _decode(data, i, end)
            i += length
            dotted = c == DOTTED_I
            if c < len(fold):
                c = fold[c]
            if c == SPACE:
                if not after_space:
                    utf8[j] = SPACE
                    chars[k] = SPACE
                    j += 1
                    k += 1
                after_space = True
                continue
            j = _encode(utf8, j, c)
            chars[k] = c
            k += 1
            if dotted:
                j = _encode(utf8, j, np.uint32(COMBINING_DOT))
                chars[k] = COMBINING_DOT
                k += 1
            after_space = False
        if after_space and k > first:
            j -= 1
            k -= 1
        byte_offsets[d + 1] = j
        char_offsets[d + 1] = k
