"""Count characters by what they are: a table over all code points, so no loop over a text's characters."""

from __future__ import annotations

import sys
import unicodedata
from dataclasses import dataclass
from functools import cache

import numpy as np

__all__ = ["Characters", "count_characters"]

_IGNORED, _OTHER, _HAN, _KANA = 0, 1, 2, 3
_HAN_RANGES = ((0x3005, 0x3008), (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x40000))
_KANA_RANGES = ((0x3041, 0x3100), (0x31F0, 0x3200), (0xFF66, 0xFFA0), (0x1100, 0x1200), (0xAC00, 0xD7B0))


@dataclass(frozen=True, slots=True)
class Characters:
    """What a text is made of, in characters."""

    content: int
    """Neither punctuation nor symbol, white space or control character."""
    han: int
    kana: int
    """Kana and Hangul: where they stand, ideographs are not Chinese."""

    @property
    def han_share(self) -> float:
        """Ideographs among the content characters; 0 where there are none."""
        return self.han / self.content if self.content else 0.0


@cache
def _classes() -> np.ndarray:
    """uint8 array of shape (0x110000,): class of each code point, by Unicode general category and block."""
    categories = map(unicodedata.category, map(chr, range(sys.maxunicode + 1)))
    table = np.fromiter((_IGNORED if name[0] in "PSZC" else _OTHER for name in categories), np.uint8)
    for ranges, kind in ((_HAN_RANGES, _HAN), (_KANA_RANGES, _KANA)):
        for first, end in ranges:
            table[first:end][table[first:end] == _OTHER] = kind
    return table


def count_characters(text: str) -> Characters:
    """Return the counts of one text without lone surrogates."""
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    counts = np.bincount(_classes()[codes], minlength=4)
    return Characters(content=int(counts[1:].sum()), han=int(counts[_HAN]), kana=int(counts[_KANA]))
