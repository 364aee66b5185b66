"""jieba's cut as a compiled kernel over UTF-8: the same words as the package `jieba`, without a Python string each.

jieba weighs every way to cut a run of characters into dictionary words and takes the likeliest (a word's share of
the dictionary's counts, multiplied along the path); runs of single characters that come out of it are cut again by a
hidden Markov model over the states begin, middle, end and single. Both come from the package, dictionary and
probabilities too, and so do its rules at a tie: sums are taken in its order, so that they are equal to the last bit.

The dictionary is a trie in one hash table. A node is known by the slot it lies in, so a step down costs one lookup.
"""

from __future__ import annotations

import functools
import math
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv

# A longer word is cut between characters: what the vocabulary does to a word stays cheap.
WORD_BYTES = 64

# Kinds of characters, as the kernel sees them.
OTHER, LETTER, DIGIT, SPACE, HAN = range(5)

# What jieba takes for Chinese; other ideographs it returns one by one.
FIRST, LAST = 0x4E00, 0x9FD5
_SLOT_BITS = 20
# The one node without a slot.
_ROOT = 1 << _SLOT_BITS
# LAST - FIRST < 2 ** 15.
_CHAR_BITS = 15
_NEVER = -3.14e100  # jieba's logarithm of zero


class UserWord(NamedTuple):
    """A line of a user dictionary."""

    word: str
    seen: int
    """How often it counts as seen; 0 for as often as it takes to be preferred to its parts (jieba's default)."""


class Lattice(NamedTuple):
    """Dictionary and Markov model as the kernel reads them."""

    keys: npt.NDArray[np.int64]
    """Of each slot: parent node and character, -1 for a free slot."""
    weights: npt.NDArray[np.float64]
    """Of each node: logarithm of the word's share of all counts; NaN where only longer words go on."""
    unknown: float
    """The same for a character that is no word."""
    emit: npt.NDArray[np.float64]
    """[4, characters]: logarithm of a character's probability in the states B, E, M, S."""
    start: npt.NDArray[np.float64]
    trans: npt.NDArray[np.float64]
    """[4, 4]: from, to."""


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
    total = int(counts.sum())
    if user_words:
        known = dict(zip(words.to_pylist(), counts.tolist(), strict=True))
        base = load_lattice()
        given = [count or _preferred_count(word, base, known, total) for word, count in user_words]
        words = pa.concat_arrays([words, pa.array([word for word, _ in user_words], pa.string())])
        counts = np.concatenate([counts, np.array(given, np.int64)])
        total += sum(given)
    distinct, place = np.unique(counts, return_inverse=True)
    # `math.log`, as jieba does: numpy's may differ in the last bit.
    logs = np.array([math.log(count or 1) - math.log(total) for count in distinct.tolist()])
    # Key and weight side by side: one cache line for both.
    slots = np.full((1 << _SLOT_BITS, 2), np.nan)
    keys, weights = slots.view(np.int64)[:, 0], slots[:, 1]
    keys[:] = -1
    codes = np.frombuffer("".join(words.to_pylist()).encode("utf-32-le"), np.uint32)
    if not _insert(codes, np.asarray(pc.utf8_length(words)), np.where(counts > 0, logs[place], np.nan), keys, weights):
        raise ValueError("the dictionary does not fit")
    states = "BEMS"
    emit = np.full((4, LAST - FIRST + 1), _NEVER)
    for state, row in zip(states, emit, strict=True):
        found = [(ord(char) - FIRST, value) for char, value in finalseg.emit_P[state].items()]
        found = [(code, value) for code, value in found if 0 <= code <= LAST - FIRST]
        row[[code for code, _ in found]] = [value for _, value in found]
    trans = np.array([[finalseg.trans_P[a].get(b, _NEVER) for b in states] for a in states])
    start = np.array([finalseg.start_P[state] for state in states])
    return Lattice(keys, weights, math.log(1) - math.log(total), emit, start, trans)


def _preferred_count(word: str, base: Lattice, known: dict[str, int], total: int) -> int:
    """Return the least count at which `word` is likelier than the words it is now cut into (`jieba.suggest_freq`)."""
    data = np.frombuffer(word.encode(), np.uint8)
    kinds = np.full(0x110000, HAN, np.uint8)
    lengths, _ = cut_block(np.array([0, len(data)]), data, kinds, base, hmm=False)
    ends = np.cumsum(lengths) // 3
    share = math.prod(known.get(word[a:b], 1) / total for a, b in zip([0, *ends[:-1]], ends, strict=True))
    return max(int(share * total) + 1, known.get(word, 0))


def cut_block(
    offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], kinds: npt.NDArray[np.uint8], model: Lattice, hmm: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Cut documents that lie end to end into words.

    Args:
        offsets: int64 [N + 1], where each document begins in `data`.
        data: uint8, well-formed UTF-8 (lone surrogates may be in it).
        kinds: uint8 [0x110000], OTHER, LETTER, DIGIT, SPACE or HAN of each code point.
        model: Dictionary and Markov model.
        hmm: Whether the Markov model is asked.

    Returns:
        uint8 [words], each word's length in bytes, of all documents; int64 [N], each document's number of words.
    """
    size = int(offsets[-1] - offsets[0])
    lengths, counts = np.empty(size, np.uint8), np.zeros(len(offsets) - 1, np.int64)
    offsets, data = offsets.view(), data.view()
    # Or numba compiles once more for arrays that are.
    offsets.flags.writeable = data.flags.writeable = False
    used = _cut(offsets, data, kinds, *model, hmm, lengths, counts)
    return lengths[:used].copy(), counts


@numba.njit(nogil=True, cache=True, inline="always")
def _find(keys: Any, key: Any) -> Any:
    """Return the slot that holds `key`, or the free slot where the search ended."""
    # Fibonacci hashing: the high bits of a product by 2^64 / golden ratio.
    slot = np.int64((np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(64 - _SLOT_BITS))
    while keys[slot] != key and keys[slot] >= 0:
        slot = (slot + 1) & (_ROOT - 1)
    return slot


@numba.njit(nogil=True, cache=True)
def _insert(codes: Any, n_chars: Any, weights: Any, keys: Any, slots: Any) -> bool:
    begin, nodes = 0, 0
    for w in range(len(n_chars)):
        end = begin + n_chars[w]
        node = _ROOT
        for i in range(begin, end):
            if not FIRST <= codes[i] <= LAST:
                # Never looked up: such a word is not in a run of Han characters.
                node = -1
                break
        if node == _ROOT:
            for i in range(begin, end):
                key = (node << _CHAR_BITS) | (np.int64(codes[i]) - FIRST)
                node = _find(keys, key)
                if keys[node] < 0:
                    nodes += 1
                    if nodes > 3 * (_ROOT // 4):
                        return False
                    keys[node] = key
            slots[node] = weights[w]
        begin = end
    return True


@numba.njit(nogil=True, cache=True, inline="always")
def _step(data: Any, i: int) -> Any:
    """Return the code point at `i` and its length in bytes."""
    b = np.uint32(data[i])
    if b < 0x80:
        return b, 1
    if b < 0xE0:
        return ((b & np.uint32(0x1F)) << np.uint32(6)) | (data[i + 1] & 0x3F), 2
    c = np.uint32(data[i + 1] & 0x3F) << np.uint32(6) | (data[i + 2] & 0x3F)
    if b < 0xF0:
        return ((b & np.uint32(0xF)) << np.uint32(12)) | c, 3
    return ((b & np.uint32(7)) << np.uint32(18)) | (c << np.uint32(6)) | (data[i + 3] & 0x3F), 4


@numba.njit(nogil=True, cache=True, inline="always")
def _append(data: Any, begin: Any, end: Any, lengths: Any, used: Any) -> Any:
    """Append the word `data[begin:end]`, in pieces of at most WORD_BYTES, and return the number of words."""
    while end - begin > WORD_BYTES:
        border = begin + WORD_BYTES
        while data[border] & 0xC0 == 0x80:  # inside a character
            border -= 1
        lengths[used] = border - begin
        used += 1
        begin = border
    lengths[used] = end - begin
    return used + 1


@numba.njit(nogil=True, cache=True)
def _likeliest(codes: Any, n: int, keys: Any, weights: Any, unknown: float, route: Any, ends: Any) -> None:
    """Fill `ends[i]` with the end of the word that begins at i on the likeliest path."""
    route[n] = 0.0
    for i in range(n - 1, -1, -1):
        best, end = -np.inf, i + 1
        node = _ROOT
        some = False
        for k in range(i, n):
            key = (node << _CHAR_BITS) | codes[k]
            node = _find(keys, key)
            if keys[node] < 0:
                break
            weight = weights[node]
            # A word, no mere beginning.
            if not np.isnan(weight):
                some = True
                total = weight + route[k + 1]
                # jieba prefers the longer word at a tie.
                if total >= best:
                    best, end = total, k + 1
        if not some:
            best = unknown + route[i + 1]
        route[i], ends[i] = best, end


@numba.njit(nogil=True, cache=True)
def _is_word(codes: Any, begin: int, end: int, keys: Any, weights: Any) -> bool:
    node = _ROOT
    for i in range(begin, end):
        node = _find(keys, (node << _CHAR_BITS) | codes[i])
        if keys[node] < 0:
            return False
    return not np.isnan(weights[node])


@numba.njit(nogil=True, cache=True)
def _viterbi(
    codes: Any,
    begin: int,
    end: int,
    emit: Any,
    start: Any,
    trans: Any,
    back: Any,
    data: Any,
    place: int,
    lengths: Any,
    used: int,
) -> int:
    """Append the words of the likeliest states of `codes[begin:end]`; states 0 B, 1 E, 2 M, 3 S."""
    c = codes[begin]
    b, e, m, s = start[0] + emit[0, c], start[1] + emit[1, c], start[2] + emit[2, c], start[3] + emit[3, c]
    for i in range(begin + 1, end):
        c = codes[i]
        # Of two equal ways jieba takes the state whose letter comes later.
        from_e, from_s = e + trans[1, 0] + emit[0, c], s + trans[3, 0] + emit[0, c]
        to_b, back[i, 0] = (from_s, 3) if from_s >= from_e else (from_e, 1)
        from_b, from_m = b + trans[0, 1] + emit[1, c], m + trans[2, 1] + emit[1, c]
        to_e, back[i, 1] = (from_m, 2) if from_m >= from_b else (from_b, 0)
        from_b, from_m = b + trans[0, 2] + emit[2, c], m + trans[2, 2] + emit[2, c]
        to_m, back[i, 2] = (from_m, 2) if from_m >= from_b else (from_b, 0)
        from_e, from_s = e + trans[1, 3] + emit[3, c], s + trans[3, 3] + emit[3, c]
        to_s, back[i, 3] = (from_s, 3) if from_s >= from_e else (from_e, 1)
        b, e, m, s = to_b, to_e, to_m, to_s
    state = 3 if s >= e else 1
    # The states, from the last to the first.
    for i in range(end - 1, begin, -1):
        before = back[i, state]
        back[i, 0] = state
        state = before
    back[begin, 0] = state
    word = begin
    for i in range(begin, end):
        if back[i, 0] == 1 or back[i, 0] == 3:
            used = _append(data, place + 3 * word, place + 3 * (i + 1), lengths, used)
            word = i + 1
    return used


@numba.njit(nogil=True, cache=True)
def _cut_run(
    codes: Any,
    n: int,
    keys: Any,
    weights: Any,
    unknown: float,
    emit: Any,
    start: Any,
    trans: Any,
    hmm: bool,
    route: Any,
    ends: Any,
    back: Any,
    data: Any,
    place: int,
    lengths: Any,
    used: int,
) -> int:
    """Append the words of a run of characters from FIRST to LAST, each of three bytes, that begins at `place`."""
    _likeliest(codes, n, keys, weights, unknown, route, ends)
    i = 0
    while i < n:
        if ends[i] - i > 1 or not hmm:
            used = _append(data, place + 3 * i, place + 3 * ends[i], lengths, used)
            i = ends[i]
            continue
        k = i + 1
        while k < n and ends[k] - k == 1:
            k += 1
        if k - i > 1 and not _is_word(codes, i, k, keys, weights):
            used = _viterbi(codes, i, k, emit, start, trans, back, data, place, lengths, used)
        else:
            for _ in range(i, k):
                lengths[used] = 3
                used += 1
        i = k
    return used


@numba.njit(nogil=True, cache=True)
def _cut(
    offsets: Any,
    data: Any,
    kinds: Any,
    keys: Any,
    weights: Any,
    unknown: float,
    emit: Any,
    start: Any,
    trans: Any,
    hmm: bool,
    lengths: Any,
    counts: Any,
) -> int:
    # Characters in a run; grows.
    room = 256
    codes, route = np.empty(room, np.int64), np.empty(room + 1)
    ends, back = np.empty(room, np.int64), np.empty((room, 4), np.uint8)
    used = 0
    for d in range(len(counts)):
        first = used
        i, stop = offsets[d], offsets[d + 1]
        while i < stop:
            c, step = _step(data, i)
            if FIRST <= c <= LAST:
                n = 0
                while i < stop and FIRST <= c <= LAST:
                    if n == room:
                        room *= 2
                        longer = np.empty(room, np.int64)
                        longer[:n] = codes
                        codes, route = longer, np.empty(room + 1)
                        ends, back = np.empty(room, np.int64), np.empty((room, 4), np.uint8)
                    codes[n] = np.int64(c) - FIRST
                    n += 1
                    i += 3
                    if i < stop:
                        c, step = _step(data, i)
                used = _cut_run(
                    codes,
                    n,
                    keys,
                    weights,
                    unknown,
                    emit,
                    start,
                    trans,
                    hmm,
                    route,
                    ends,
                    back,
                    data,
                    i - 3 * n,
                    lengths,
                    used,
                )
                continue
            kind = kinds[c]
            begin = i
            i += step
            # An ideograph that jieba does not know.
            if kind == HAN:
                lengths[used] = step
                used += 1
                continue
            if kind == SPACE:
                # Where the run's last white space begins.
                last = begin
                after = HAN
                while i < stop:
                    c, step = _step(data, i)
                    after = kinds[c]
                    if after != SPACE:
                        break
                    last = i
                    i += step
                if i >= stop or after == HAN:
                    used = _append(data, begin, i, lengths, used)
                    continue
                if last > begin:
                    used = _append(data, begin, last, lengths, used)
                if data[last] != 0x20:
                    lengths[used] = i - last
                    used += 1
                    continue
                # A plain space belongs to the word that follows.
                begin, kind = last, after
                i += step
            while i < stop:
                c, step = _step(data, i)
                if kinds[c] == kind:
                    i += step
                    continue
                if kind == LETTER and c in (0x27, 0x2019) and i + step < stop:
                    beyond, n_bytes = _step(data, i + step)
                    if kinds[beyond] == LETTER:
                        i += step + n_bytes
                        continue
                break
            used = _append(data, begin, i, lengths, used)
        counts[d] = used - first
    return used
