"""One form for every text, before any rule looks at it: NFC, `\\n` for every line break, nothing that cannot be seen.

Out go control characters but `\\n` and `\\t`, byte-order marks, zero-width and bidirectional format characters,
soft hyphens, tag characters, noncharacters and lone surrogates. U+001F among them is the tokenizer's word border.

Two format characters change what a reader sees, and stay there only:
- ZWJ and ZWNJ after a letter of a script that joins or stacks (Arabic to Myanmar, Khmer, Mongolian, ...);
- ZWJ inside an emoji sequence (family, profession, flag), that is between two pictographs.

What a PDF's font has chosen and no writer becomes what is seen: radicals in place of ideographs (⽣ is 生), ligatures
of Latin letters (ﬁ is fi). Chinese punctuation, ideographic spaces and variation selectors stay as they are.

`normalise` says what is meant and does one text; `normalise_block` does a block of documents in Arrow's buffers. Its
kernel writes what a table over all code points says, and gives up on a document with a joiner, with a form that a font
has chosen, or with a code point that NFC may change: that document goes through `normalise`. Nearly every Chinese or
English text needs none of it.
"""

import importlib.metadata
import re
import unicodedata
from collections import Counter
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import opencc
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import CleanConfig
from slimpajama.corpus.clean.pii import DEFAULT, VERSION, mask_block
from slimpajama.text.buffers import text_buffers
from slimpajama.text.characters import FONT_FORMS
from slimpajama.text.kernels import compiled, decode

ASSIGNED = (*range(0x40000), *range(0xE0000, 0xE0200))
"""Code points that Unicode assigns or will: planes 4 to 13 are empty, what lies behind is private."""

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
# Distance of a full-width letter or digit from its ASCII form.
_TO_ASCII = 0xFEE0

# Scripts that join or stack.
_JOINING = "\u0600-\u109f\u1780-\u18af\u1a20-\u1cff\ua840-\uabff\U00010a00-\U00011fff"
_PICTOGRAPH = "\u2190-\u2bff\u3030\u303d\u3297\u3299\U0001f000-\U0001faff"
_SECOND_JOINER = re.compile("(?<=[\u200c\u200d])[\u200c\u200d]+")
_JOINER_ELSEWHERE = re.compile(
    f"(?<![{_JOINING}])\u200c|(?<![{_JOINING}{_PICTOGRAPH}\ufe0f])\u200d|(?<=[{_PICTOGRAPH}\ufe0f])\u200d(?![{_PICTOGRAPH}])"
)


_WRITTEN = str.maketrans(FONT_FORMS)
_KEEP, _SPACE, _BREAK, _DROP, _FOLD, _SLOW = range(6)


def table_versions() -> dict[str, str]:
    """Return the versions of what decides categories, NFC and scripts: Python's tables and OpenCC's."""
    return {"unicode": unicodedata.unidata_version, "opencc": importlib.metadata.version("opencc")}


def mask_versions(cfg: CleanConfig) -> dict[str, object]:
    """Return what decides how personal data is masked, beside `mask_pii`; nothing where none is."""
    also: dict[str, object] = {"mask_also": cfg.mask_also} if cfg.mask_also else {}
    return also | {"pii": VERSION} if cfg.mask_pii or also else {}


@cache
def _actions(fold_width: bool) -> npt.NDArray[np.uint8]:
    """Return a uint8 array of shape (0x110000,): what to do with a code point.

    `_SLOW` is every code point that is not NFC by itself, may combine with the one before it, or is put in order
    with its neighbours (canonical combining class above 0): a text without any of them is NFC (UAX #15, 9.1).
    """
    table = np.zeros(0x110000, np.uint8)
    for point in ASSIGNED:
        char = chr(point)
        parts = unicodedata.decomposition(char).split()
        if char.isspace():
            table[point] = _SPACE
        if unicodedata.combining(char) or not unicodedata.is_normalized("NFC", char):
            table[point] = _SLOW
        if parts and parts[0][0] != "<":
            table[[int(part, 16) for part in parts[1:]]] = _SLOW
    # Vowels and finals that compose to Hangul syllables.
    table[0x1161:0x1176] = table[0x11A8:0x11C3] = _SLOW
    # Joiners, and what a font has chosen.
    table[[0x200C, 0x200D, *map(ord, FONT_FORMS)]] = _SLOW
    for action, ranges in ((_BREAK, _LINE_BREAKS), (_DROP, _OUT), (_FOLD, _FULL_WIDTH if fold_width else ())):
        for first, last in ranges:
            table[first : last + 1] = action
    return table


def normalise(text: str, *, fold_width: bool = False) -> str:
    """Return `text`, lone surrogates included, in the one form; it may be empty, and changes no more.

    `fold_width` turns full-width Latin letters and digits into ASCII, which NFC leaves as they are.
    """
    codes = np.frombuffer(text.replace("\r\n", "\n").encode("utf-32-le", "surrogatepass"), np.uint32)
    actions = _actions(fold_width)[codes]
    codes = np.where(actions == _BREAK, np.uint32(ord("\n")), codes)
    codes = np.where(actions == _FOLD, codes - np.uint32(_TO_ASCII), codes)
    text = str(codes[actions != _DROP].astype("<u4").tobytes(), "utf-32-le").translate(_WRITTEN)
    text = unicodedata.normalize("NFC", text)
    # NFC orders marks, and so decides what stands before a joiner.
    while "\u200d" in text or "\u200c" in text:
        shorter = _JOINER_ELSEWHERE.sub("", _SECOND_JOINER.sub("", text))
        if shorter == text:
            break
        text = unicodedata.normalize("NFC", shorter)
    return text.strip()


def normalise_block(texts: pa.LargeStringArray, *, fold_width: bool = False) -> pa.LargeStringArray:
    """Return what `normalise` makes of each text."""
    offsets, data = text_buffers(texts)
    out, ends = np.empty(offsets[-1] - offsets[0], np.uint8), np.zeros(len(offsets), np.int64)
    slow = np.zeros(len(texts), np.bool_)
    _normalise(offsets, data, _actions(fold_width), out, ends, slow)
    done = pa.LargeStringArray.from_buffers(len(texts), pa.py_buffer(ends), pa.py_buffer(out[: ends[-1]]))
    if not slow.any():
        return done
    redone = [normalise(text, fold_width=fold_width) for text in texts.filter(pa.array(slow)).to_pylist()]
    return pc.replace_with_mask(done, pa.array(slow), pa.array(redone, pa.large_string()))


def rewrite(texts: pa.LargeStringArray, cfg: CleanConfig) -> tuple[pa.LargeStringArray, Counter[str]]:
    """Return texts in the one form, with what the options ask for, and how many items of personal data were masked."""
    texts = normalise_block(texts, fold_width=cfg.fold_width)
    if cfg.simplify:
        convert = opencc.OpenCC("t2s").convert
        texts = pa.array([text if text.isascii() else convert(text) for text in texts.to_pylist()], texts.type)
    kinds = (DEFAULT if cfg.mask_pii else ()) + tuple(dict.fromkeys(cfg.mask_also))
    return mask_block(texts, kinds) if kinds else (texts, Counter())


@compiled
def _normalise(offsets: Any, data: Any, actions: Any, out: Any, ends: Any, slow: Any) -> None:
    j = 0
    for d in range(len(offsets) - 1):
        i, end, first = offsets[d], offsets[d + 1], j
        # Behind the last character that is no white space.
        kept = j
        while i < end:
            b = np.uint32(data[i])
            c, length = b, 1
            if b < 0x80:
                # Written so that there is no branch to guess at each space.
                if actions[b] <= _SPACE:
                    out[j] = b
                    i += 1
                    j += j > first or actions[b] == _KEEP
                    kept = j if actions[b] == _KEEP else kept
                    continue
            else:
                length = 2 if b < 0xE0 else 3 if b < 0xF0 else 4
                if b < 0xC0 or b > 0xF4 or i + length > end:
                    # No UTF-8: Python says so.
                    slow[d] = True
                    break
                c, _ = decode(data, i)
            action = actions[c]
            if action == _KEEP or (action == _SPACE and j > first):
                for n in range(length):
                    out[j + n] = data[i + n]
                j += length
                kept = j if action == _KEEP else kept
            elif action == _BREAK:
                if j > first and not (c == 13 and i + 1 < end and data[i + 1] == 10):
                    out[j] = 10
                    j += 1
            elif action == _FOLD:
                out[j] = c - _TO_ASCII
                j += 1
                kept = j
            elif action == _SLOW:
                slow[d] = True
                break
            i += length
        j = first if slow[d] else kept
        ends[d + 1] = j
