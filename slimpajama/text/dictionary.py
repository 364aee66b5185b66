"""The package jieba's dictionary and Markov model, with a user's words, as the kernel of `lattice.py` reads them."""

import functools
import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

from slimpajama.text.lattice import FIRST, HAN, LAST, LETTER, NEVER, Lattice, cut_block, insert

_SLOT_BITS = 20
# Nodes of the package's own dictionary, rounded up.
_OWN_NODES = 700_000
# What jieba looks for words in, beside ideographs.
_ALSO = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+#&._%-"


class UserWord(NamedTuple):
    """A line of a user dictionary."""

    word: str
    seen: int
    """How often it counts as seen; 0 for as often as it takes to be preferred to its parts (jieba's default), -1 for a
    word that is taken out of the dictionary."""


@functools.cache
def load_lattice(user_words: tuple[UserWord, ...] = ()) -> Lattice:
    """Return the model of the installed package `jieba`, with a user's words added as `jieba.add_word` does."""
    import jieba
    from jieba import finalseg

    with jieba.Tokenizer().get_dict_file() as file:
        names = pa.csv.ReadOptions(column_names=["word", "count", "tag"])
        types = pa.csv.ConvertOptions(column_types={"word": pa.string(), "count": pa.int64(), "tag": pa.string()})
        plain = pa.csv.ParseOptions(delimiter=" ", quote_char=False)
        table = pa.csv.read_csv(file, names, plain, types)
    words, counts = table["word"].combine_chunks(), table["count"].to_numpy()
    total, slot_bits = int(counts.sum()), _SLOT_BITS
    joins = np.zeros(0x110000, np.bool_)
    joins[FIRST : LAST + 1] = True
    joins[list(map(ord, _ALSO))] = True
    others = words.filter(pc.match_substring_regex(words, f"[^{chr(FIRST)}-{chr(LAST)}]")).to_pylist()
    mixed = [word for word in others if joins[list(map(ord, word))].all()]
    if user_words:
        known = dict(zip(words.to_pylist(), counts.tolist(), strict=True))
        base = load_lattice()
        given = [count or _preferred_count(word, base, known, total) for word, count in user_words]
        words = pa.concat_arrays([words, pa.array([word for word, _ in user_words], pa.string())])
        counts = np.concatenate([counts, np.array(given, np.int64)])
        total += sum(count for count in given if count > 0)
        mixed += [word for word, _ in user_words if not _all_han(word)]
        joins[list(set(map(ord, "".join(word for word, _ in user_words))))] = True
        nodes = _OWN_NODES + sum(len(word) for word, _ in user_words)
        slot_bits = max(slot_bits, (nodes + nodes // 3).bit_length())
    distinct, place = np.unique(counts, return_inverse=True)
    # `math.log`, as jieba does: numpy's may differ in the last bit.
    logs = np.array([math.log(max(count, 1)) - math.log(total) for count in distinct.tolist()])
    # Key and weight side by side: one cache line for both.
    slots = np.full((1 << slot_bits, 2), np.nan)
    keys, weights = slots.view(np.uint64)[:, 0], slots[:, 1]
    keys[:] = 0
    codes = np.frombuffer("".join(words.to_pylist()).encode("utf-32-le"), np.uint32)
    if not insert(codes, np.asarray(pc.utf8_length(words)), np.where(counts > 0, logs[place], np.nan), keys, weights):
        raise ValueError("the dictionary does not fit")
    states = "BEMS"
    emit = np.full((4, LAST - FIRST + 1), NEVER)
    for state, row in zip(states, emit, strict=True):
        found = [(ord(char) - FIRST, value) for char, value in finalseg.emit_P[state].items()]
        found = [(code, value) for code, value in found if 0 <= code <= LAST - FIRST]
        row[[code for code, _ in found]] = [value for _, value in found]
    trans = np.array([[finalseg.trans_P[a].get(b, NEVER) for b in states] for a in states])
    start = np.array([finalseg.start_P[state] for state in states])
    return Lattice(keys, weights, math.log(1) - math.log(total), emit, start, trans, joins, _noticed_by(mixed))


def _all_han(word: str) -> bool:
    return ord(min(word)) >= FIRST and ord(max(word)) <= LAST


def _noticed_by(words: list[str]) -> npt.NDArray[np.bool_]:
    """Return of each word the rarest pair of neighbouring bytes: where ideographs, else letters meet something else."""
    pairs = np.zeros(1 << 16, np.bool_)
    for data in (word.encode() for word in words if len(word) > 1):

        def rank(i: int, data: bytes = data) -> tuple[bool, bool]:
            a, b = data[i : i + 1], data[i + 1 : i + 2]
            return a.isascii() != b.isascii(), a.isalnum() != b.isalnum()

        best = max(range(len(data) - 1), key=rank)
        pairs[data[best] << 8 | data[best + 1]] = True
    return pairs


def _preferred_count(word: str, base: Lattice, known: dict[str, int], total: int) -> int:
    """Return the least count at which `word` is likelier than the words it is now cut into (`jieba.suggest_freq`)."""
    data = word.encode()
    kinds = np.full(0x110000, HAN, np.uint8)
    kinds[[code for code in range(0x80) if chr(code).isalnum()]] = LETTER
    lengths, _ = cut_block(np.array([0, len(data)]), np.frombuffer(data, np.uint8), kinds, base, hmm=False)
    ends = np.cumsum(lengths).tolist()
    parts = [data[a:b].decode() for a, b in zip([0, *ends[:-1]], ends, strict=True)]
    share = math.prod(known.get(part, 1) / total for part in parts)
    return max(int(share * total) + 1, known.get(word, 0))
