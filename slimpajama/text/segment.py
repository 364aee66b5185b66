"""Cut text into words that join back to exactly the same text.

jieba sees runs of Han characters only. What stands between them is cut by a rule that needs no dictionary:
letters, digits and other marks apart, each with the one space before it (` fox`), remaining white space by
itself. A subword vocabulary learnt inside such words shares ` fox` between all its places.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import re
from collections.abc import Callable
from functools import cache

from slimpajama.config import TextConfig
from slimpajama.text.stopwords import stop_words

__all__ = ["Segmenter", "engine_versions"]

# Unified ideographs with all extensions, the compatibility blocks, the iteration mark and the ideographic zero.
_HAN = re.compile(r"([\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)")

# `\s+(?!\S)` leaves the last white space of a run to the word that follows, if it is a plain space.
_BETWEEN = re.compile(r" ?[^\W\d_]+(?:['’][^\W\d_]+)*| ?\d+| ?(?:[^\w\s]|_)+|\s+(?!\S)|\s")

_BORDER = "\n"  # never inside a Han run, and both engines return it as a word of its own


class Segmenter:
    """Words of a text by the engine and settings of a `TextConfig`; safe to share between threads.

    Example:
        >>> Segmenter(TextConfig()).cut("我爱自然语言处理，the quick fox.")
        ['我', '爱', '自然语言', '处理', '，', 'the', ' quick', ' fox', '.']
    """

    def __init__(self, cfg: TextConfig) -> None:
        self._cut_han = _engine(cfg.engine)
        self._hmm = cfg.hmm

    def cut(self, text: str) -> list[str]:
        """Return the words of `text`; `"".join(cut(text)) == text` for every text."""
        pieces = _HAN.split(text)  # between, Han, between, Han, ..., between
        words = _BETWEEN.findall(pieces[0])
        if len(pieces) == 1:
            return words
        # One call for all runs: a call into the engine costs as much as cutting ten characters.
        han = self._cut_han(_BORDER.join(pieces[1::2]), self._hmm)
        han.append(_BORDER)
        begin = 0
        for between in pieces[2::2]:
            end = han.index(_BORDER, begin)
            words += han[begin:end]
            begin = end + 1
            if len(between) == 1:
                words.append(between)
            else:
                words += _BETWEEN.findall(between)
        return words


@cache
def _engine(name: str) -> Callable[[str, bool], list[str]]:
    """Return an engine's function (text, hmm) -> words, on a dictionary that nobody else can change."""
    if name == "rjieba":
        import rjieba

        fast = rjieba.Jieba()
        return lambda text, hmm: list(fast.cut(text, hmm))
    import jieba

    slow = jieba.Tokenizer()
    # Not `initialize()`: it would load a cache from the shared temporary folder by `marshal`.
    slow.FREQ, slow.total = slow.gen_pfdict(slow.get_dict_file())
    slow.initialized = True
    return lambda text, hmm: list(slow.cut(text, HMM=hmm))


def engine_versions(cfg: TextConfig) -> dict[str, object]:
    """Return everything that decides how words come out; part of the stage's fingerprint."""
    if cfg.engine == "jieba":
        import jieba

        with jieba.Tokenizer().get_dict_file() as file:
            dictionary = hashlib.sha256(file.read()).hexdigest()
    else:
        dictionary = "compiled in"  # so its version stands for it
    lists = {name: "\n".join(sorted(stop_words((name,)))) for name in cfg.stop_words}
    return {
        "engine": cfg.engine,
        "version": importlib.metadata.version(cfg.engine),
        "dictionary": dictionary,
        "hmm": cfg.hmm,
        "stop_words": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in lists.items()},
    }
