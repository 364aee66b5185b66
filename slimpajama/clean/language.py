"""Language of a document, by CLD2 (Compact Language Detector 2) and, where it is unsure, by script."""

from __future__ import annotations

from dataclasses import dataclass

import pycld2

from slimpajama.clean.characters import Characters

__all__ = ["MIXED_BELOW", "Language", "identify"]

MIXED_BELOW = 0.8  # share of the main language; below it, more than every fifth byte of text is another language
HAN_DOMINANT = 0.5  # share of ideographs; one says as much as 2.9 English letters, so three quarters are Chinese
HAN_PRESENT = 0.1  # the same: from here on a quarter of what is said is Chinese
KANA_SHARE = 0.1  # of the ideographs; Japanese has more kana than ideographs, Chinese reviews a stray の
_CHINESE = {"zh", "zh-Hant"}
_SLICES, _SLICE_CHARS = 8, 1_000  # looked at in a longer text, evenly spread: the detector is the slowest step here


@dataclass(frozen=True, slots=True)
class Language:
    """What a text is written in."""

    code: str
    """`zh`, `zh-Hant`, `en`, another ISO code, `mixed`, or `unknown`."""
    zh: float
    """Share of Chinese in the text, both scripts together, by UTF-8 bytes."""
    en: float
    reliable: bool
    """CLD2's own opinion of its answer."""


def identify(text: str, characters: Characters) -> Language:
    """Return the language of a normalised text.

    CLD2 doubts itself on short Chinese texts that quote the other script, product names or code, and calls many of
    them half another language. So both scripts count as Chinese together (traditional only where nearly all of it
    is), and a text that is mostly ideographs without kana or Hangul is Chinese whatever CLD2 says.

    Args:
        text: Normalised text.
        characters: Its counts, as `count_characters` returns them.
    """
    reliable, shares = _shares(_sample(text))
    chinese = sum(shares.get(code, 0.0) for code in _CHINESE)
    traditional = shares.get("zh-Hant", 0.0)
    variant = "zh-Hant" if traditional and traditional >= MIXED_BELOW * chinese else "zh"
    ideographs = 0.0 if characters.kana > KANA_SHARE * characters.han else characters.han_share
    if ideographs >= HAN_DOMINANT:
        code = variant
    elif not reliable:
        code = "mixed" if ideographs >= HAN_PRESENT else "unknown"
    else:
        joined = {name: share for name, share in shares.items() if name not in _CHINESE} | {variant: chinese}
        main, share = max(joined.items(), key=lambda item: (item[1], item[0]))
        code = main if share >= MIXED_BELOW else "mixed"
    return Language(code, chinese, shares.get("en", 0.0), reliable)


def _sample(text: str) -> str:
    """Return a text of bounded length with the same languages."""
    if len(text) <= _SLICES * _SLICE_CHARS:
        return text
    step = (len(text) - _SLICE_CHARS) / (_SLICES - 1)
    starts = (round(number * step) for number in range(_SLICES))
    return "\n".join(text[start : start + _SLICE_CHARS] for start in starts)


def _shares(text: str) -> tuple[bool, dict[str, float]]:
    """Return whether CLD2 trusts its answer, and its shares of the text by language code."""
    try:
        reliable, _, details = pycld2.detect(text, bestEffort=False)
    except pycld2.error:  # raised for code points that it takes for no valid UTF-8
        return False, {}
    return bool(reliable), {code: percent / 100 for _, code, percent, _ in details if code != "un"}
