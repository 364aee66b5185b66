"""What words are: the definition that the kernel is tested and measured against."""

from __future__ import annotations

import re
from collections.abc import Callable

from slimpajama.text.characters import FONT_FORMS
from slimpajama.text.lattice import WORD_BYTES

# Unified ideographs with all extensions, the compatibility blocks, the iteration mark and the ideographic zero.
_HAN = re.compile(r"([\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)")

# Radicals that stand for ideographs.
_RADICALS = str.maketrans({char: seen for char, seen in FONT_FORMS.items() if char < "\u3000"})

# `\s+(?!\S)` leaves the last white space of a run to the word that follows, if it is a plain space.
_BETWEEN = re.compile(r" ?[^\W\d_]+(?:['’][^\W\d_]+)*| ?\d+| ?(?:[^\w\s]|_)+|\s+(?!\S)|\s")

# What only the package's dictionary joins: ideographs with letters, letters with a sign.
_MIXED = re.compile(r"(?=.*[\u4e00-\u9fd5].*)(?=.*[^\u4e00-\u9fd5].*).+|(?=.*[A-Za-z])(?=.*[+#&]).+")

# Never inside a Han run, and the engine returns it as a word of its own.
_BORDER = "\n"


def by_rule(text: str, cut: Callable[[str, bool], list[str]], hmm: bool) -> list[str]:
    """Return the words of a text: those that mix scripts and runs of Han characters by `cut`, the rest by the rule."""
    words, between = [], ""
    for word in cut(text, hmm):
        if _MIXED.fullmatch(word):
            words += [*_without_mixed(between, cut, hmm), word]
            between = ""
        else:
            between += word
    words += _without_mixed(between, cut, hmm)
    return [piece for word in words for piece in ([word] if len(word) <= WORD_BYTES // 4 else _short(word))]


def _without_mixed(text: str, cut_han: Callable[[str, bool], list[str]], hmm: bool) -> list[str]:
    words, begin = [], 0
    for word in _of_ideographs(text.translate(_RADICALS), cut_han, hmm):
        words.append(text[begin : begin + len(word)])
        begin += len(word)
    return words


def _of_ideographs(text: str, cut_han: Callable[[str, bool], list[str]], hmm: bool) -> list[str]:
    # Between, Han, between, Han, ..., between.
    pieces = _HAN.split(text)
    words = _BETWEEN.findall(pieces[0])
    # One call for all runs: a call into the engine costs as much as cutting ten characters.
    han = [*cut_han(_BORDER.join(pieces[1::2]), hmm), _BORDER] if len(pieces) > 1 else []
    begin = 0
    for between in pieces[2::2]:
        end = han.index(_BORDER, begin)
        words += han[begin:end]
        begin = end + 1
        words += _BETWEEN.findall(between)
    return words


def _short(word: str) -> list[str]:
    """Cut a word into pieces of at most WORD_BYTES."""
    pieces, size = [""], 0
    for char in word:
        n_bytes = len(char.encode("utf-8", "surrogatepass"))
        if size + n_bytes > WORD_BYTES:
            pieces.append("")
            size = 0
        pieces[-1] += char
        size += n_bytes
    return pieces
