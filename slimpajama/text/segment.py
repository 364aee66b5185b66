"""Cut text into words that join back to exactly the same text.

Runs of Han characters are cut by jieba, and so are the words of its dictionary that mix scripts (`U盘`, `C++`, `4S店`)
and those of a user's dictionary; a radical counts as the ideograph that it stands for. What stands between is cut by a
rule that needs no dictionary: letters, digits and other marks apart, each with the one space before it (` fox`),
remaining white space by itself. A subword vocabulary learnt inside such words shares ` fox` between all its places.
What is longer than 64 bytes is cut further, so that a megabyte of base64 is no word.
"""

import codecs
import functools
import hashlib
import importlib.metadata
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slimpajama.core.config import TextConfig
from slimpajama.core.logs import step_log
from slimpajama.text.buffers import text_buffers
from slimpajama.text.characters import FONT_FORMS
from slimpajama.text.dictionary import UserWord, load_lattice
from slimpajama.text.lattice import DIGIT, HAN, LETTER, SPACE, WORD_BYTES, cut_block
from slimpajama.text.stopwords import stop_words

# Unified ideographs with all extensions, the compatibility blocks, the iteration mark and the ideographic zero.
_HAN = r"[\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+"


_USER_LINE = re.compile(r"(.+?)(?: ([0-9]+))?(?: [a-z]+)?")
# Control characters, and what stands for bytes that are no UTF-8.
_UNSEEN = re.compile("[\x00-\x1f\x7f-\x9f\ufffd]")
MAX_SEEN = 1_000_000_000


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
    for char, seen in FONT_FORMS.items():
        kinds[ord(char)] = kinds[ord(seen[0])]
    return kinds


@functools.cache
def _note_engine() -> None:
    step_log("segment").info("text.engine: rjieba is now the compiled kernel, jieba, which gives the same words")


def parse_user_dictionary(data: bytes) -> tuple[tuple[UserWord, ...], tuple[int, ...]]:
    """Return the words of a user dictionary, and the numbers of the lines that are left out.

    A line is read as jieba reads it, `word [count] [tag]` in UTF-8; a word may hold any characters, also spaces, and a
    count of 0 takes it out of the dictionary. Left out is a line that is no UTF-8, has a count of 10^9 or more, or a
    word that no text holds: one with control characters, or longer than 64 bytes, since all longer words are cut.
    """
    words, refused = [], []
    for number, line in enumerate(data.removeprefix(codecs.BOM_UTF8).splitlines(), 1):
        text = line.decode("utf-8", "replace").strip()
        if not text:
            continue
        found = _USER_LINE.fullmatch(text)
        word, seen = (found[1], int(found[2] or -1)) if found else ("", 0)
        fits = 0 < len(word.encode()) <= WORD_BYTES and not _UNSEEN.search(word)
        if fits and seen < MAX_SEEN:
            # jieba counts how often itself where nothing is said.
            words.append(UserWord(word, {-1: 0, 0: -1}.get(seen, seen)))
        else:
            refused.append(number)
    return tuple(words), tuple(refused)


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
