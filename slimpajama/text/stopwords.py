"""Which words carry content: no stop word, and at least one letter, digit or ideograph.

The lists are stopwords-iso's (MIT), by way of the package `stopwordsiso`; their hash is part of the stage's
fingerprint, so another version of the package makes other `content_words` knowingly.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache

import stopwordsiso

from slimpajama.config import TextConfig

__all__ = ["content_flags", "stop_words"]


@cache
def stop_words(languages: tuple[str, ...]) -> frozenset[str]:
    """Return the built-in lists of some languages (`zh`, `en`), in lower case, with straight apostrophes."""
    return frozenset(_folded(word) for language in languages for word in stopwordsiso.stopwords(language))


def _folded(word: str) -> str:
    return word.strip().casefold().replace("’", "'")


class _Flags(dict[str, bool]):
    """Word -> flag, worked out at the first meeting: a corpus repeats its words."""

    LIMIT = 1_000_000  # words remembered, about 150 MB; a hostile corpus has a new one each time

    def __init__(self, languages: tuple[str, ...]) -> None:
        super().__init__()
        self.stop_words = stop_words(languages)

    def __missing__(self, word: str) -> bool:
        if len(self) >= self.LIMIT:
            self.clear()
        flag = _folded(word) not in self.stop_words and any(map(str.isalnum, word))
        self[word] = flag
        return flag


@cache
def _flags(languages: tuple[str, ...]) -> _Flags:
    return _Flags(languages)


def content_flags(words: Iterable[str], cfg: TextConfig) -> list[bool]:
    """Say of each word whether it carries content.

    Args:
        words: Words as `Segmenter.cut` returns them; a space in front does not matter.
        cfg: `stop_words` names the lists.

    Returns:
        One flag a word: False for stop words, punctuation, symbols and white space.
    """
    return list(map(_flags(cfg.stop_words).__getitem__, words))
