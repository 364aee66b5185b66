"""What a document is made of: characters, words, lines and paragraphs, counted in one pass over its UTF-8.

Two readings, one count. A *unit* is a run of letters and digits (an apostrophe inside it does not end it), or one
ideograph, kana or Hangul syllable: Chinese has no spaces to split at. Where a published threshold speaks of words,
`HAN_PER_WORD` units of Chinese count as one word, so the same threshold serves both languages and a mixed text.

A line counts if there is anything on it but white space; a paragraph ends at an empty line.
"""

import unicodedata
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import opencc

from slimpajama.corpus.clean.normalise import ASSIGNED
from slimpajama.text.kernels import HASH_SEED, add_to_hash, compiled, decode

HAN_PER_WORD = 2
"""Ideographs in a Chinese word, ours: jieba's words have 1.75 and 1.77 of them in technical texts, 2.09 in statutes.
Over FineWeb2's bound on repeated 5-grams are, of 120 documents each with jieba's words and with 2 ideographs: statutes
12 and 21 %, technical texts 0 and 0 %, Debian's documentation 2.5 and 1.7 %."""

# Rae et al. 2021, Gopher, A.1.1.
GOPHER_STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
# Penedo et al. 2025, FineWeb2, cmn_Hani.
HAN_STOP_WORDS = tuple("的年在月是和日了於為有被人中为他與後也而由")

LINES = ("bullet_lines", "ellipsis_lines", "punctuated_lines", "short_lines", "javascript_lines")
"""Kinds of lines of which the share is measured."""
COUNTS = (
    *"chars content beyond_ascii han kana traditional simplified units unit_chars alphabetic symbols_alone".split(),
    *"stop_words english_hits hashes ellipses curly lorem_ipsum newlines lines line_chars".split(),
    *LINES,
)
"""Fields of `Scan.counts`. `beyond_ascii`: of the content characters. `traditional` and `simplified`: ideographs that
only this script has. `stop_words`: different ones; `english_hits`: units that are one of Gopher's. `symbols_alone`:
runs without letter or digit between white space. `line_chars`: without white space at a line's ends."""

_COUNTS = np.dtype([(name, np.int64) for name in COUNTS])

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
_JAVASCRIPT, _LOREM, _IPSUM = range(3)
_SLOTS = 1 << 10


class Parts(NamedTuple):
    """Units, lines or paragraphs of N documents."""

    ends: npt.NDArray[np.int64]
    """[N + 1]: document d has the parts from `ends[d]` to `ends[d + 1]`."""
    hashes: npt.NDArray[np.uint64]
    lengths: npt.NDArray[np.int32]
    """In characters."""


class Scan(NamedTuple):
    """Counts of each of N documents, and hashes of their parts for the repetition measures."""

    counts: npt.NDArray[np.void]
    """[N], of the fields COUNTS."""
    units: Parts
    """Hashed in lower case."""
    lines: Parts
    """White space counts as one space, none at the ends."""
    paragraphs: Parts


class _Tables(NamedTuple):
    """What is known of code points and units."""

    classes: npt.NDArray[np.uint8]
    """[0x110000], of each code point."""
    lower: npt.NDArray[np.uint32]
    """Lower case of the code points below 0x600."""
    keys: npt.NDArray[np.uint64]
    """Hash of the known unit in each hash slot."""
    numbers: npt.NDArray[np.int8]
    """Its number in _SPECIAL, GOPHER_STOP_WORDS and HAN_STOP_WORDS end to end; -1 for a free slot."""


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
    value = HASH_SEED
    for char in text:
        value = np.uint64(add_to_hash(value, ord(char)))
    return int(value)


@cache
def _tables() -> _Tables:
    lower = np.array([ord(chr(point).lower()[0]) for point in range(0x600)], np.uint32)
    keys, numbers = np.zeros(_SLOTS, np.uint64), np.full(_SLOTS, -1, np.int8)
    for number, word in enumerate((*_SPECIAL, *GOPHER_STOP_WORDS, *HAN_STOP_WORDS)):
        slot = (unit_hash(word) >> 40) % _SLOTS
        assert numbers[slot] < 0, f"{word} shares a slot: change _SLOTS"
        keys[slot], numbers[slot] = unit_hash(word), number
    return _Tables(_classes(), lower, keys, numbers)


def scan(offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]) -> Scan:
    """Count what N documents are made of; `data` is valid UTF-8, normalised, and `offsets` say where each begins."""
    n, size = len(offsets) - 1, int(offsets[-1] - offsets[0])
    # At most one unit or line in two bytes, one paragraph in three, and a last one.
    parts = [
        Parts(np.zeros(n + 1, np.int64), np.empty(most, np.uint64), np.empty(most, np.int32))
        for most in (size // 2 + n, size // 2 + n, size // 3 + n)
    ]
    found = Scan(np.zeros(n, _COUNTS), *parts)
    _scan(offsets, data, _tables(), found)
    return Scan(
        found.counts, *(Parts(ends, hashes[: ends[-1]], lengths[: ends[-1]]) for ends, hashes, lengths in parts)
    )


class _Word(NamedTuple):
    """A run of letters and digits, as far as it was read."""

    hash: Any
    chars: Any
    has_letter: Any
    joined: Any
    """Whether an apostrophe follows, which does not end it if a letter or digit comes next."""


class _Line(NamedTuple):
    """A line, as far as it was read."""

    hash: Any
    chars: Any
    """0 before anything but white space."""
    han: Any
    first: Any
    """Class of its first character."""
    last: Any
    """Class of its last character."""
    dots: Any
    """Full stops at its end."""
    space: Any
    """Whether white space follows."""


@compiled(inline=True)
def _append(parts: Any, d: Any, value: Any, chars: Any) -> None:
    """Append a part to document d's."""
    at = parts.ends[d + 1]
    if at - parts.ends[d] < MAX_UNITS:
        parts.hashes[at], parts.lengths[at] = value, chars
        parts.ends[d + 1] = at + 1


@compiled(inline=True)
def _known(value: Any, tables: Any) -> Any:
    """Return the number of a unit with this hash, -1 for none."""
    slot = (value >> np.uint64(40)) % np.uint64(_SLOTS)
    return tables.numbers[slot] if tables.keys[slot] == value else -1


@compiled(inline=True)
def _extend_word(word: Any, c: Any, kind: Any, tables: Any) -> Any:
    lower = tables.lower[c] if c < 0x600 else c
    return _Word(add_to_hash(word.hash, lower), word.chars + 1, word.has_letter or kind == _LETTER, False)


@compiled(inline=True)
def _extend_line(line: Any, c: Any, flags: Any) -> Any:
    value, chars, dots = line.hash, line.chars, line.dots
    if line.space:
        value, chars, dots = add_to_hash(value, 0x20), chars + 1, 0
    first = flags if chars == 0 else line.first
    dots = dots + 1 if c == 0x2E else 0
    return _Line(add_to_hash(value, c), chars + 1, line.han + (flags & _KIND == _HAN), first, flags, dots, False)


@compiled(inline=True)
def _end_word(word: Any, tables: Any, row: Any, units: Any, d: Any) -> Any:
    """Count a word and return its number if it is a known unit."""
    _append(units, d, word.hash, word.chars)
    row.units += 1
    row.unit_chars += word.chars
    row.alphabetic += word.has_letter
    number = _known(word.hash, tables)
    if number >= len(_SPECIAL):
        row.stop_words |= np.int64(1) << number
        row.english_hits += 1
    return number


@compiled(inline=True)
def _count_single(c: Any, flags: Any, tables: Any, row: Any, units: Any, d: Any) -> None:
    """Count an ideograph, kana or Hangul syllable, which is a unit by itself."""
    value = add_to_hash(HASH_SEED, c)
    _append(units, d, value, 1)
    number = _known(value, tables)
    if number >= 0:
        row.stop_words |= np.int64(1) << number
    if flags & _KIND == _HAN:
        row.han += 1
        row.traditional += flags & _TRADITIONAL != 0
        row.simplified += flags & _SIMPLIFIED != 0
    else:
        row.kana += 1


@compiled(inline=True)
def _count_mark(c: Any, before: Any, dots: Any, row: Any) -> None:
    """Count a punctuation mark or symbol; `before` is the last character that is no white space."""
    row.ellipses += dots == 3 or (c == 0x2026 and before != 0x2026)
    row.hashes += c in (0x23, 0xFF03)
    row.curly += c in (0x7B, 0xFF5B)


@compiled(inline=True)
def _end_line(line: Any, ellipsis: Any, script: Any, row: Any, lines: Any, d: Any) -> None:
    _append(lines, d, line.hash, line.chars)
    row.lines += 1
    row.line_chars += line.chars
    row.bullet_lines += line.first & _BULLET != 0
    row.ellipsis_lines += ellipsis or line.dots >= 3
    row.punctuated_lines += line.last & _TERMINAL != 0
    row.short_lines += 10 * line.chars + 17 * line.han < 10 * SHORT_LINE
    row.javascript_lines += script


@compiled
def _scan_document(data: Any, begin: Any, end: Any, tables: Any, found: Any, d: Any) -> None:
    row, classes = found.counts[d], tables.classes
    no_word, no_line = _Word(HASH_SEED, 0, False, False), _Line(HASH_SEED, 0, 0, np.uint8(0), np.uint8(0), 0, False)
    word, line, number, script = no_word, no_line, -1, False
    # Of the characters since white space: 1 if there are any, 3 if a letter or digit is among them.
    run, before, paragraph, paragraph_chars = 0, np.uint32(0), HASH_SEED, 0
    i = begin
    while i <= end:
        # A line break behind the text closes what is open.
        c, length = decode(data, i) if i < end else (np.uint32(10), 1)
        i += length
        row.chars += 1
        flags = classes[c]
        kind = flags & _KIND
        if kind in (_LETTER, _NUMBER):
            row.beyond_ascii += c >= 0x80
            word = _extend_word(word, c, kind, tables)
        elif word.chars and not word.joined and c in (0x27, 0x2019):
            word = _Word(word.hash, word.chars, word.has_letter, True)
        elif word.chars:
            last, number = number, _end_word(word, tables, row, found.units, d)
            script |= number == _JAVASCRIPT
            row.lorem_ipsum += last == _LOREM and number == _IPSUM
            word = no_word
        if kind != _SPACE:
            run |= 3 if kind >= _LETTER else 1
            line = _extend_line(line, c, flags)
            if kind >= _HAN:
                _count_single(c, flags, tables, row, found.units, d)
            elif kind == _PUNCTUATION:
                _count_mark(c, before, line.dots, row)
            before = c
            # The rest of a word in ASCII: what can change is little.
            while kind == _LETTER and i < end and data[i] < 0x80 and classes[data[i]] == _LETTER:
                c = np.uint32(data[i])
                word = _extend_word(word, c, kind, tables)
                line = _Line(add_to_hash(line.hash, c), line.chars + 1, line.han, line.first, line.last, 0, False)
                row.chars += 1
                i += 1
            continue
        row.symbols_alone += run == 1
        run = 0
        line = _Line(line.hash, line.chars, line.han, line.first, line.last, line.dots, line.chars > 0)
        if c != 10:
            continue
        row.newlines += 1
        if line.chars:
            _end_line(line, before == 0x2026, script, row, found.lines, d)
            paragraph, paragraph_chars = add_to_hash(paragraph, line.hash), paragraph_chars + line.chars
        if paragraph_chars and (line.chars == 0 or i > end):
            _append(found.paragraphs, d, paragraph, paragraph_chars)
            paragraph, paragraph_chars = HASH_SEED, 0
        line, script = no_line, False


@compiled
def _scan(offsets: Any, data: Any, tables: Any, found: Any) -> None:
    for d in range(len(offsets) - 1):
        for parts in (found.units, found.lines, found.paragraphs):
            parts.ends[d + 1] = parts.ends[d]
        _scan_document(data, offsets[d], offsets[d + 1], tables, found, d)
        row = found.counts[d]
        # The line break behind the text.
        row.chars -= 1
        row.newlines -= 1
        bits, row.stop_words = row.stop_words, 0
        while bits:
            bits &= bits - 1
            row.stop_words += 1
        # Every letter or digit is in a word, every ideograph a unit.
        singles = row.han + row.kana
        row.content = row.unit_chars + singles
        row.beyond_ascii += singles
        row.units += singles
        row.unit_chars += singles
        row.alphabetic += singles
