"""One form for every text: Unicode NFC, `\\n` for every line break, nothing that cannot be seen.

Out go control characters but `\\n` and `\\t`, byte-order marks, zero-width and bidirectional format characters,
soft hyphens, tag characters, noncharacters and lone surrogates. U+001F among them is the tokenizer's word border.

Two format characters change what a reader sees, and stay there only:
- ZWJ and ZWNJ after a letter of a script that joins or stacks (Arabic to Myanmar, Khmer, Mongolian, ...);
- ZWJ inside an emoji sequence (family, profession, flag), that is between two pictographs.

Chinese punctuation, ideographic spaces and variation selectors stay as they are. Characters are looked up in a
table over all code points: a regular expression with these ranges runs at a tenth of the speed.
"""

from __future__ import annotations

import re
import unicodedata

import numpy as np

__all__ = ["normalise"]

Ranges = tuple[tuple[int, int], ...]

_LINE_BREAKS: Ranges = ((0x0B, 0x0C), (0x0D, 0x0D), (0x85, 0x85), (0x2028, 0x2029))
_OUT: Ranges = (
    *((0x00, 0x08), (0x0E, 0x1F), (0x7F, 0x84), (0x86, 0x9F)),  # control characters
    *((0xAD, 0xAD), (0x061C, 0x061C), (0x200B, 0x200B), (0x200E, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F)),
    *((0xFEFF, 0xFEFF), (0xFFF9, 0xFFFC), (0xE0000, 0xE007F)),  # format characters and tags
    *((0xD800, 0xDFFF), (0xFDD0, 0xFDEF)),  # surrogates, noncharacters
    *((plane + 0xFFFE, plane + 0xFFFF) for plane in range(0, 0x110000, 0x10000)),
)
_FULL_WIDTH: Ranges = ((0xFF10, 0xFF19), (0xFF21, 0xFF3A), (0xFF41, 0xFF5A))
_TO_ASCII = 0xFEE0  # distance of a full-width letter or digit from its ASCII form

_JOINING = "\u0600-\u109f\u1780-\u18af\u1a20-\u1cff\ua840-\uabff\U00010a00-\U00011fff"  # scripts that join or stack
_PICTOGRAPH = "\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_SECOND_JOINER = re.compile("(?<=[\u200c\u200d])[\u200c\u200d]+")
_JOINER_ELSEWHERE = re.compile(
    f"(?<![{_JOINING}])\u200c|(?<![{_JOINING}{_PICTOGRAPH}\ufe0f])\u200d|(?<=[{_PICTOGRAPH}\ufe0f])\u200d(?![{_PICTOGRAPH}])"
)


def _table(*groups: Ranges) -> np.ndarray:
    """Return a uint8 array of shape (0x110000,): number of the group that holds a code point, from 1; else 0."""
    table = np.zeros(0x110000, np.uint8)
    for number, group in enumerate(groups, start=1):
        for first, last in group:
            table[first : last + 1] = number
    return table


_ACTION = _table(_LINE_BREAKS, _OUT, _FULL_WIDTH)
_BREAK, _DROP, _FOLD = 1, 2, 3


def normalise(text: str, *, fold_width: bool = False) -> str:
    """Return `text` in the one form; a normalised text comes back unchanged.

    Args:
        text: Any text, lone surrogates included.
        fold_width: Turn full-width Latin letters and digits into ASCII. NFC leaves them as they are.

    Returns:
        Text without white space at its ends; it may be empty.
    """
    text = _replace(text.replace("\r\n", "\n"), fold_width)
    if "\u200d" in text or "\u200c" in text:
        text = _JOINER_ELSEWHERE.sub("", _SECOND_JOINER.sub("", text))
    if not unicodedata.is_normalized("NFC", text):
        text = unicodedata.normalize("NFC", text)
    return text.strip()


def _replace(text: str, fold_width: bool) -> str:
    """Return `text` with line breaks unified, invisible characters dropped and, if asked, wide letters folded."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    actions = _ACTION[codes]
    if not actions.any():
        return text
    codes = np.where(actions == _BREAK, np.uint32(ord("\n")), codes)
    if fold_width:
        codes = np.where(actions == _FOLD, codes - _TO_ASCII, codes)
    return str(codes[actions != _DROP].astype("<u4").tobytes(), "utf-32-le")
