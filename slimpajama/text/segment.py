"""Cut text into words that join back to exactly the same text.

jieba sees runs of Han characters only. What stands between them is cut by a rule that needs no dictionary:
letters, digits and other marks apart, each with the one space before it (` fox`), remaining white space by
itself. A subword vocabulary learnt inside such words shares ` fox` between all its places. What is longer than 64
bytes is cut further, so that a megabyte of base64 is no word.
"""

import functools
import hashlib
import importlib.metadata
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slimpajama.core.config import TextConfig
from slimpajama.core.errors import ConfigError
from slimpajama.core.logs import step_log
from slimpajama.text.buffers import text_buffers
from slimpajama.text.lattice import DIGIT, HAN, LETTER, SPACE, UserWord, cut_block, load_lattice
from slimpajama.text.stopwords import stop_words

# Unified ideographs with all extensions, the compatibility blocks, the iteration mark and the ideographic zero.
_HAN = r"[\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"


class Segmenter:
    """Words of a text by the engine and settings of a `TextConfig`; safe to share between threads.

    Args:
        cfg: Whether it guesses.
        user_words: Added to the engine's dictionary.

    Example:
        >>> Segmenter(TextConfig()).cut("我爱自然语言处理，the quick fox.")
        ['我', '爱', '自然语言', '处理', '，', 'the', ' quick', ' fox', '.']
    """

    def __init__(self, cfg: TextConfig, user_words: Sequence[UserWord] = ()) -> None:
        self._hmm = cfg.hmm
        self._user_words = tuple(user_words)
        if cfg.engine == "rjieba":
            _note_engine()
        # Now, not in each of several threads.
        load_lattice(self._user_words)

    def cut(self, text: str) -> list[str]:
        """Return the words of `text`; `"".join(cut(text)) == text` for every text."""
        data = text.encode("utf-8", "surrogatepass")
        lengths, _ = self._cut_bytes(np.array([0, len(data)]), np.frombuffer(data, np.uint8))
        ends = np.cumsum(lengths).tolist()
        return [data[a:b].decode("utf-8", "surrogatepass") for a, b in zip([0, *ends], ends, strict=False)]

    def lengths(self, texts: pa.LargeStringArray) -> pa.BinaryArray:
        """Return each document's words as their lengths in bytes, one byte a word; no text may be null."""
        lengths, counts = self._cut_bytes(*text_buffers(texts))
        ends = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
        return pa.BinaryArray.from_buffers(pa.binary(), len(texts), [None, pa.py_buffer(ends), pa.py_buffer(lengths)])

    def _cut_bytes(
        self, offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8]
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
        return cut_block(offsets, data, _kinds(), load_lattice(self._user_words), self._hmm)


@functools.cache
def _kinds() -> npt.NDArray[np.uint8]:
    """Return the kind of each code point."""
    every = "".join(map(chr, range(0x110000)))
    kinds = np.zeros(0x110000, np.uint8)
    for kind, pattern in ((LETTER, r"[^\W\d_]+"), (DIGIT, r"\d+"), (SPACE, r"\s+"), (HAN, _HAN)):
        for run in re.finditer(pattern, every):
            kinds[slice(*run.span())] = kind
    return kinds


@functools.cache
def _note_engine() -> None:
    step_log("segment").info("text.engine: rjieba is now the compiled kernel, jieba, which gives the same words")


def parse_user_dictionary(data: bytes, where: str = "") -> tuple[UserWord, ...]:
    """Return the words of a user dictionary in jieba's format: `word [count] [tag]`, one a line, UTF-8.

    Raises:
        ConfigError: A line is something else, or its word is not all Han characters: it would never be met,
            since everything else is cut without a dictionary. The line is not quoted: it may be another file's.
    """
    words = []
    for number, line in enumerate(data.decode("utf-8-sig", "replace").splitlines(), 1):
        word, *rest = line.split() or [""]
        if not word:
            continue
        seen = int(rest.pop(0)) if rest and re.fullmatch(r"[0-9]{1,9}", rest[0]) else 0
        if len(rest) > 1 or not re.fullmatch(r"[\u4e00-\u9fd5]+", word):
            raise ConfigError(
                "not a line of a user dictionary",
                where=f"{where}:{number}",
                expected="a word of Han characters (U+4E00 to U+9FD5), optionally a count below 10^9 and a tag",
            )
        words.append(UserWord(word, seen))
    return tuple(words)


def engine_versions(cfg: TextConfig, user_words: Sequence[UserWord] = ()) -> dict[str, object]:
    """Return everything that decides how words come out; part of the stage's fingerprint."""
    import jieba

    with jieba.Tokenizer().get_dict_file() as file:
        dictionary = hashlib.sha256(file.read()).hexdigest()
    lists = {name: "\n".join(sorted(stop_words((name,)))) for name in cfg.stop_words}
    user = "\n".join(f"{word} {seen}" for word, seen in user_words)
    return {
        "engine": "jieba",
        "version": importlib.metadata.version("jieba"),
        "dictionary": dictionary,
        "user_dictionary": hashlib.sha256(user.encode()).hexdigest() if user_words else "",
        "hmm": cfg.hmm,
        "stop_words": {name: hashlib.sha256(text.encode()).hexdigest() for name, text in lists.items()},
    }
