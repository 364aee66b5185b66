"""What a document is made of: characters, words, lines and paragraphs, counted in one pass over its UTF-8.

Two readings, one count. A *unit* is a run of letters and digits (an apostrophe inside it does not end it), or one
ideograph, kana or Hangul syllable: Chinese has no spaces to split at. Where a published threshold speaks of words,
`HAN_PER_WORD` units of Chinese count as one word, so the same threshold serves both languages and a mixed text.

A line counts if there is anything on it but white space; a paragraph ends at an empty line.
"""

from __future__ import annotations

import unicodedata
from functools import cache
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import opencc

from slimpajama.corpus.clean.normalise import ASSIGNED

HAN_PER_WORD = 2
"""Ideographs in a Chinese word, ours: jieba's words have 1.75 and 1.77 of them in technical texts, 2.09 in statutes.
Over FineWeb2's bound on repeated 5-grams are, of 120 documents each with jieba's words and with 2 ideographs: statutes
12 and 21 %, technical texts 0 and 0 %, Debian's documentation 2.5 and 1.7 %."""

# Rae et al. 2021, Gopher, A.1.1.
GOPHER_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
# Penedo et al. 2025, FineWeb2, cmn_Hani.
HAN_STOP_WORDS = tuple("的年在月是和日了於為有被人中为他與後也而由")

COUNTS = (
    "chars",
    "content",
    "beyond_ascii",
    "han",
    "kana",
    "traditional",
    "simplified",
    "units",
    "unit_chars",
    "alphabetic",
    "symbols_alone",
    "stop_words",
    "english_hits",
    "hashes",
    "ellipses",
    "curly",
    "lorem_ipsum",
    "newlines",
    "lines",
    "line_chars",
    "bullet_lines",
    "ellipsis_lines",
    "punctuated_lines",
    "short_lines",
    "javascript_lines",
)
"""Columns of `Scan.counts`. `beyond_ascii`: of the content characters. `traditional` and `simplified`: ideographs that
only this script has. `stop_words`: different ones; `english_hits`: units that are one of Gopher's. `symbols_alone`:
runs without letter or digit between white space. `line_chars`: without white space at a line's ends."""

# A document's units, lines and paragraphs from here on are counted, not searched for repetition.
MAX_UNITS = 1 << 20
# Characters (Penedo et al. 2024, FineWeb); an ideograph counts as 2.7, as in `min_chars_han`.
SHORT_LINE = 30

_SPACE, _PUNCTUATION, _LETTER, _NUMBER, _HAN, _KANA = 1, 2, 3, 4, 5, 6  # 0: anything else
_KIND, _TERMINAL, _BULLET, _TRADITIONAL, _SIMPLIFIED = 7, 8, 16, 32, 64
_HAN_RANGES = ((0x3005, 0x3008), (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x40000))
_KANA_RANGES = ((0x3041, 0x3100), (0x31F0, 0x3200), (0xFF66, 0xFFA0), (0x1100, 0x1200), (0xAC00, 0xD7B0))
# C4's (Raffel et al. 2020: a closing quotation mark is one), and Chinese.
_TERMINALS = ".!?…\"'”’" + "。！？；｡．」』"
_BULLETS = "•‣◦●○▪■□◆◇▶►➢·・*-–—"
_SPECIAL = ("javascript", "lorem", "ipsum")
_SEED, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)  # FNV-1a, over code points
_SLOTS = 1 << 10


class Scan(NamedTuple):
    """Counts of each of N documents, and hashes of their parts for the repetition measures."""

    counts: npt.NDArray[np.int64]
    """[N, len(COUNTS)]."""
    units: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.int32]]
    """Offsets [N + 1], and of each unit the hash (case folded) and the length in characters."""
    lines: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.int32]]
    """The same of each line; white space counts as one space, none at the ends."""
    paragraphs: tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64], npt.NDArray[np.int32]]


@cache
def _classes() -> npt.NDArray[np.uint8]:
    """Return a uint8 array of shape (0x110000,): kind and flags of each code point, by Unicode category and block."""
    kinds = {"P": _PUNCTUATION, "S": _PUNCTUATION, "L": _LETTER, "M": _LETTER, "N": _NUMBER}
    table = np.zeros(0x110000, np.uint8)
    for point in ASSIGNED:
        table[point] = _SPACE if chr(point).isspace() else kinds.get(unicodedata.category(chr(point))[0], 0)
    for ranges, kind in ((_HAN_RANGES, _HAN), (_KANA_RANGES, _KANA)):
        for first, end in ranges:
            table[first:end][table[first:end] >= _LETTER] = kind
    for chars, flag in ((_TERMINALS, _TERMINAL), (_BULLETS, _BULLET)):
        table[[ord(char) for char in chars]] |= flag
    ideographs = [chr(point) for point in np.flatnonzero(table == _HAN)]
    # What changes both ways, compatibility ideographs for one, tells nothing.
    changed = [
        np.array(opencc.OpenCC(script).convert("\n".join(ideographs)).split("\n")) != ideographs
        for script in ("t2s", "s2t")
    ]
    for change, flag in ((changed[0] & ~changed[1], _TRADITIONAL), (changed[1] & ~changed[0], _SIMPLIFIED)):
        table[[ord(char) for char, told in zip(ideographs, change, strict=True) if told]] |= flag
    return table


def unit_hash(text: str) -> int:
    """Return the hash of a unit in lower case."""
    value = int(_SEED)
    for char in text:
        value = (value ^ ord(char)) * int(_PRIME) & 0xFFFFFFFFFFFFFFFF
    return value


@cache
def _tables() -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint64], npt.NDArray[np.int8]]:
    """Return the lower case of code points below 0x600, and hash and number of each known unit by hash slot."""
    lower = np.array([ord(chr(point).lower()[0]) for point in range(0x600)], np.uint32)
    keys, numbers = np.zeros(_SLOTS, np.uint64), np.full(_SLOTS, -1, np.int8)
    for number, word in enumerate((*_SPECIAL, *GOPHER_STOP_WORDS, *HAN_STOP_WORDS)):
        slot = (unit_hash(word) >> 40) % _SLOTS
        assert numbers[slot] < 0, f"{word} shares a slot: change _SLOTS"
        keys[slot], numbers[slot] = unit_hash(word), number
    return lower, keys, numbers


def scan(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]) -> Scan:
    """Count what documents are made of.

    Args:
        offsets: int64 [N + 1], where each document begins in `data`.
        data: uint8, valid UTF-8, normalised.
    """
    n, size = len(offsets) - 1, int(offsets[-1] - offsets[0])
    counts = np.zeros((n, len(COUNTS)), np.int64)
    # At most one unit or line in two bytes, one paragraph in three, and a last one.
    parts = [
        (np.zeros(n + 1, np.int64), np.empty(most, np.uint64), np.empty(most, np.int32))
        for most in (size // 2 + n, size // 2 + n, size // 3 + n)
    ]
    _scan(offsets, data, _classes(), *_tables(), counts, *parts[0], *parts[1], *parts[2])
    return Scan(counts, *((ends, hashes[: ends[-1]], lengths[: ends[-1]]) for ends, hashes, lengths in parts))


@numba.njit(nogil=True, cache=True)
def _scan(
    offsets: Any,
    data: Any,
    classes: Any,
    lower: Any,
    keys: Any,
    numbers: Any,
    counts: Any,
    unit_ends: Any,
    unit_hashes: Any,
    unit_lens: Any,
    line_ends: Any,
    line_hashes: Any,
    line_lens: Any,
    para_ends: Any,
    para_hashes: Any,
    para_lens: Any,
) -> None:
    # Next free places of units, lines and paragraphs.
    u = n = p = 0
    for d in range(len(offsets) - 1):
        first_u, first_n, first_p = u, n, p
        chars = wide = han = kana = traditional = simplified = 0
        runs = run_chars = lettered = alone = hits = hashes = ellipses = curly = lorem = 0
        newlines = lines = line_chars = bullets = ellipsis_lines = punctuated = short = javascript = 0
        stops = np.uint64(0)
        word, word_chars, word_letters, joined, after_lorem = _SEED, 0, False, False, False
        # Of anything but white space.
        run, run_content = False, False
        line, length, line_han, pending, dots = _SEED, 0, 0, False, 0
        last, last_char, line_bullet, line_ellipsis, line_script = np.uint8(0), np.uint32(0), False, False, False
        para, para_chars = _SEED, 0
        i, end = offsets[d], offsets[d + 1]
        while i <= end:
            if i == end:
                c, i = np.uint32(10), i + 1  # closes what is open
            else:
                c = np.uint32(data[i])
                if c < 0x80:
                    i += 1
                elif c < 0xE0:
                    c = ((c & np.uint32(0x1F)) << np.uint32(6)) | np.uint32(data[i + 1] & 0x3F)
                    i += 2
                elif c < 0xF0:
                    c = (
                        ((c & np.uint32(0x0F)) << np.uint32(12))
                        | (np.uint32(data[i + 1] & 0x3F) << np.uint32(6))
                        | np.uint32(data[i + 2] & 0x3F)
                    )
                    i += 3
                else:
                    c = (
                        ((c & np.uint32(0x07)) << np.uint32(18))
                        | (np.uint32(data[i + 1] & 0x3F) << np.uint32(12))
                        | (np.uint32(data[i + 2] & 0x3F) << np.uint32(6))
                        | np.uint32(data[i + 3] & 0x3F)
                    )
                    i += 4
                chars += 1
                newlines += c == 10
            flags = classes[c]
            kind = flags & _KIND

            if kind in (_LETTER, _NUMBER):
                if c >= 0x80:
                    wide += 1
                run_content = True
                word = (word ^ np.uint64(lower[c] if c < 0x600 else c)) * _PRIME
                word_chars += 1
                word_letters |= kind == _LETTER
                joined = False
            elif word_chars and not joined and c in (0x27, 0x2019):
                joined = True
            elif word_chars:
                if u - first_u < MAX_UNITS:
                    unit_hashes[u], unit_lens[u] = word, word_chars
                    u += 1
                runs += 1
                run_chars += word_chars
                lettered += word_letters
                slot = (word >> np.uint64(40)) % np.uint64(_SLOTS)
                number = numbers[slot] if keys[slot] == word else -1
                if number >= 3:
                    stops |= np.uint64(1) << np.uint64(number)
                    hits += 1
                elif number == 0:
                    line_script = True
                elif number == 2 and after_lorem:
                    lorem += 1
                after_lorem = number == 1
                word, word_chars, word_letters, joined = _SEED, 0, False, False

            if kind == _SPACE:
                alone += run and not run_content
                run = run_content = False
                pending = length > 0
                dots = 0
                if c != 10:
                    continue
                if length:
                    if n - first_n < MAX_UNITS:
                        line_hashes[n], line_lens[n] = line, length
                        n += 1
                    lines += 1
                    line_chars += length
                    bullets += line_bullet
                    ellipsis_lines += line_ellipsis
                    punctuated += (last & _TERMINAL) != 0
                    short += 10 * length + 17 * line_han < 10 * SHORT_LINE
                    javascript += line_script
                    para = (para ^ line) * _PRIME
                    para_chars += length
                if para_chars and (length == 0 or i > end):
                    if p - first_p < MAX_UNITS:
                        para_hashes[p], para_lens[p] = para, para_chars
                        p += 1
                    para, para_chars = _SEED, 0
                line, length, line_han, pending, line_script = _SEED, 0, 0, False, False
                continue

            if kind >= _HAN:
                run_content = True
                if kind == _HAN:
                    han += 1
                    line_han += 1
                    traditional += (flags & _TRADITIONAL) != 0
                    simplified += (flags & _SIMPLIFIED) != 0
                else:
                    kana += 1
                hashed = (_SEED ^ np.uint64(c)) * _PRIME
                if u - first_u < MAX_UNITS:
                    unit_hashes[u], unit_lens[u] = hashed, 1
                    u += 1
                slot = (hashed >> np.uint64(40)) % np.uint64(_SLOTS)
                if keys[slot] == hashed:
                    stops |= np.uint64(1) << np.uint64(numbers[slot])
            run = True
            if length == 0:
                line_bullet = (flags & _BULLET) != 0
            elif pending:
                line = (line ^ np.uint64(32)) * _PRIME
                length += 1
                pending = False
            line = (line ^ np.uint64(c)) * _PRIME
            length += 1
            dots = dots + 1 if c == 0x2E else 0
            ellipses += dots == 3 or (c == 0x2026 and last_char != 0x2026)
            line_ellipsis = c == 0x2026 or dots >= 3
            hashes += c in (0x23, 0xFF03)
            curly += c in (0x7B, 0xFF5B)
            last, last_char = flags, c
            # The rest of a word in ASCII: what can change is little.
            if kind == _LETTER:
                while i < end and data[i] < 0x80 and classes[data[i]] == _LETTER:
                    c = np.uint32(data[i])
                    word = (word ^ np.uint64(lower[c])) * _PRIME
                    line = (line ^ np.uint64(c)) * _PRIME
                    word_chars += 1
                    length += 1
                    chars += 1
                    i += 1
                    last_char = c

        stop_words = 0
        while stops:
            stops &= stops - np.uint64(1)
            stop_words += 1
        row = counts[d]
        # Every letter or digit is in a run, every ideograph a unit.
        singles = han + kana
        row[0], row[1], row[2], row[3], row[4] = chars, run_chars + singles, wide + singles, han, kana
        row[5], row[6], row[7], row[8] = traditional, simplified, runs + singles, run_chars + singles
        row[9], row[10], row[11], row[12] = lettered + singles, alone, stop_words, hits
        row[13], row[14], row[15], row[16] = hashes, ellipses, curly, lorem
        row[17], row[18], row[19], row[20], row[21] = newlines, lines, line_chars, bullets, ellipsis_lines
        row[22], row[23], row[24] = punctuated, short, javascript
        unit_ends[d + 1], line_ends[d + 1], para_ends[d + 1] = u, n, p
