"""jieba's cut as a compiled kernel over UTF-8: the same words as the package `jieba`, without a Python string each.

jieba weighs every way to cut a run of characters into dictionary words and takes the likeliest (a word's share of
the dictionary's counts, multiplied along the path); runs of single characters that come out of it are cut again by a
hidden Markov model over the states begin, middle, end and single. Both come from the package, dictionary and
probabilities too, and so do its rules at a tie: sums are taken in its order, so that they are equal to the last bit.

The dictionary is a trie in one hash table. A node is known by the slot it lies in, so a step down costs one lookup.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slimpajama.text.characters import FONT_FORMS
from slimpajama.text.kernels import compiled, decode, find_slot

# A longer word is cut between characters: what the vocabulary does to a word stays cheap.
WORD_BYTES = 64

# Kinds of characters, as the kernel sees them.
OTHER, LETTER, DIGIT, SPACE, HAN = range(5)

# What jieba takes for Chinese; other ideographs it returns one by one.
FIRST, LAST = 0x4E00, 0x9FD5
# Radicals that stand in a text for ideographs, each of three bytes, too.
_RADICALS = np.arange(0x2E80, 0x2FE0, dtype=np.uint32)
_FIRST_RADICAL = np.uint32(0x2E80)
for _radical, _ideograph in FONT_FORMS.items():
    if ord(_radical) < 0x2FE0:
        _RADICALS[ord(_radical) - 0x2E80] = ord(_ideograph)
# The one node without a slot.
_ROOT = 1 << 32
_CHAR_BITS = 21
NEVER = -3.14e100  # jieba's logarithm of zero


class Lattice(NamedTuple):
    """Dictionary and Markov model as the kernel reads them."""

    keys: npt.NDArray[np.uint64]
    """Of each slot: parent node and character, plus one; 0 for a free slot."""
    weights: npt.NDArray[np.float64]
    """Of each node: logarithm of the word's share of all counts; NaN where only longer words go on."""
    unknown: float
    """The same for a character that is no word."""
    emit: npt.NDArray[np.float64]
    """[4, characters]: logarithm of a character's probability in the states B, E, M, S."""
    start: npt.NDArray[np.float64]
    trans: npt.NDArray[np.float64]
    """[4, 4]: from, to."""
    joins: npt.NDArray[np.bool_]
    """Of each code point: whether jieba looks for words that it stands in, ideographs and what the dictionary mixes."""
    pairs: npt.NDArray[np.bool_]
    """Of two bytes, the first times 256: whether they are those by which a word that mixes is noticed."""


def cut_block(
    offsets: npt.NDArray[np.int64], data: npt.NDArray[np.uint8], kinds: npt.NDArray[np.uint8], model: Lattice, hmm: bool
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Cut documents that lie end to end into words.

    Args:
        offsets: int64 [N + 1], where each document begins in `data`.
        data: uint8, well-formed UTF-8 (lone surrogates may be in it).
        kinds: uint8 [0x110000], OTHER, LETTER, DIGIT, SPACE or HAN of each code point.
        hmm: Whether the Markov model is asked.

    Returns:
        uint8 [words], each word's length in bytes, of all documents; int64 [N], each document's number of words.
    """
    size = int(offsets[-1] - offsets[0])
    lengths, counts = np.empty(size, np.uint8), np.zeros(len(offsets) - 1, np.int64)
    offsets, data = offsets.view(), data.view()
    # Or numba compiles once more for arrays that are.
    offsets.flags.writeable = data.flags.writeable = False
    used = _cut(offsets, data, kinds, model, hmm, lengths, counts)
    return lengths[:used].copy(), counts


@compiled
def _child(keys: Any, node: Any, char: Any) -> Any:
    """Return the slot of the node below `node` by a character, or a free slot where there is none."""
    return find_slot(keys, np.uint64((node << _CHAR_BITS) | char) + np.uint64(1))


@compiled
def insert(codes: Any, n_chars: Any, weights: Any, keys: Any, slots: Any) -> bool:
    """Write words, given end to end, into the trie; return False if they do not fit."""
    begin, nodes = 0, 0
    for w in range(len(n_chars)):
        end = begin + n_chars[w]
        node = _ROOT
        for i in range(begin, end):
            parent, char = node, np.int64(codes[i])
            node = _child(keys, parent, char)
            if not keys[node]:
                nodes += 1
                if nodes > 3 * (len(keys) // 4):
                    return False
                keys[node] = np.uint64((parent << _CHAR_BITS) | char) + np.uint64(1)
        slots[node] = weights[w]
        begin = end
    return True


class _Scratch(NamedTuple):
    """Working memory for a run of Chinese characters."""

    codes: Any
    """int64 [R]: the characters."""
    route: Any
    """float64 [R + 1]: weight of the likeliest path from a character to the end of the run."""
    ends: Any
    """int64 [R]: where the word ends that begins at a character, if the path comes by there."""
    back: Any
    """uint8 [R, 4]: the likeliest state before each state."""
    mixed: Any
    """int64 [R // 2, 2]: where words that mix begin and end, in bytes."""


@compiled(allocates=True)
def _new_scratch(room: int) -> Any:
    return _Scratch(
        np.empty(room, np.int64),
        np.empty(room + 1),
        np.empty(room, np.int64),
        np.empty((room, 4), np.uint8),
        np.empty((room // 2, 2), np.int64),
    )


@compiled
def _likeliest(model: Any, scratch: Any, n: int) -> None:
    """Find the likeliest path through the dictionary's words."""
    codes, route = scratch.codes, scratch.route
    route[n] = 0.0
    for i in range(n - 1, -1, -1):
        best, end = -np.inf, i + 1
        node = _ROOT
        some = False
        for k in range(i, n):
            node = _child(model.keys, node, codes[k])
            if not model.keys[node]:
                break
            weight = model.weights[node]
            # NaN: only the beginning of a word.
            if not np.isnan(weight):
                some = True
                total = weight + route[k + 1]
                # jieba prefers the longer word at a tie.
                if total >= best:
                    best, end = total, k + 1
        if not some:
            best = model.unknown + route[i + 1]
        route[i], scratch.ends[i] = best, end


@compiled
def _is_word(model: Any, codes: Any, begin: int, end: int) -> bool:
    node = _ROOT
    for i in range(begin, end):
        node = _child(model.keys, node, codes[i])
        if not model.keys[node]:
            return False
    return not np.isnan(model.weights[node])


@compiled
def _viterbi(model: Any, scratch: Any, begin: int, end: int) -> None:
    """Cut characters into the words of their likeliest states; states 0 B, 1 E, 2 M, 3 S."""
    codes, back = scratch.codes, scratch.back
    start, trans, emit = model.start, model.trans, model.emit
    c = codes[begin] - FIRST
    b, e, m, s = start[0] + emit[0, c], start[1] + emit[1, c], start[2] + emit[2, c], start[3] + emit[3, c]
    for i in range(begin + 1, end):
        c = codes[i] - FIRST
        # Of two equal paths jieba takes the state whose letter comes later.
        from_e, from_s = e + trans[1, 0] + emit[0, c], s + trans[3, 0] + emit[0, c]
        to_b, back[i, 0] = (from_s, 3) if from_s >= from_e else (from_e, 1)
        from_b, from_m = b + trans[0, 1] + emit[1, c], m + trans[2, 1] + emit[1, c]
        to_e, back[i, 1] = (from_m, 2) if from_m >= from_b else (from_b, 0)
        from_b, from_m = b + trans[0, 2] + emit[2, c], m + trans[2, 2] + emit[2, c]
        to_m, back[i, 2] = (from_m, 2) if from_m >= from_b else (from_b, 0)
        from_e, from_s = e + trans[1, 3] + emit[3, c], s + trans[3, 3] + emit[3, c]
        to_s, back[i, 3] = (from_s, 3) if from_s >= from_e else (from_e, 1)
        b, e, m, s = to_b, to_e, to_m, to_s
    state, word_end = 3 if s >= e else 1, end
    # From the last state to the first: a word begins in state B or S.
    for i in range(end - 1, begin - 1, -1):
        if state in (0, 3):
            scratch.ends[i], word_end = word_end, i
        state = back[i, state]


@compiled
def _guess(model: Any, scratch: Any, n: int) -> None:
    """Cut what the path leaves as single characters again by the Markov model, unless together they are a word."""
    ends, i = scratch.ends, 0
    while i < n:
        if ends[i] - i > 1:
            i = ends[i]
            continue
        k = i + 1
        while k < n and ends[k] - k == 1:
            k += 1
        if k - i > 1 and not _is_word(model, scratch.codes, i, k):
            _viterbi(model, scratch, i, k)
        i = k


@compiled(inline=True)
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


@compiled(inline=True)
def _run_end(data: Any, i: Any, stop: Any, kinds: Any, kind: Any) -> Any:
    """Return where a run of characters of one kind ends; an apostrophe between letters does not end it."""
    while i < stop:
        c, step = decode(data, i)
        if kinds[c] != kind:
            joins = kind == LETTER and c in (0x27, 0x2019) and i + step < stop
            if not joins or kinds[decode(data, i + step)[0]] != LETTER:
                return i
        i += step
    return i


@compiled(inline=True)
def _word_end(data: Any, begin: Any, i: Any, kind: Any, stop: Any, kinds: Any) -> Any:
    """Return where the word ends whose first character, of this kind, lies from `begin` to `i`; jieba cuts no such."""
    # An ideograph that jieba does not know.
    if kind == HAN:
        return i
    if kind == SPACE:
        i = _run_end(data, i, stop, kinds, SPACE)
        after = kinds[decode(data, i)[0]] if i < stop else HAN
        if after == HAN:
            return i
        last = i - 1
        while data[last] & 0xC0 == 0x80:
            last -= 1
        # The last white space of a run is a word of its own; but a plain space belongs to the word that follows.
        if last > begin:
            return last
        if data[begin] != 0x20:
            return i
        kind = after
    return _run_end(data, i, stop, kinds, kind)


@compiled(inline=True)
def _han(data: Any, i: Any) -> Any:
    """Return the character at byte `i`, the ideograph where a radical stands for one, and its length in bytes."""
    c, step = decode(data, i)
    if np.uint32(c - _FIRST_RADICAL) < np.uint32(len(_RADICALS)):
        c = _RADICALS[c - _FIRST_RADICAL]
    return c, step


@compiled
def _cut_run(data: Any, begin: Any, n: Any, model: Any, hmm: bool, scratch: Any, lengths: Any, used: Any) -> Any:
    """Append the words of `n` characters from FIRST to LAST, each of three bytes; return the number of words."""
    for k in range(n):
        scratch.codes[k] = _han(data, begin + 3 * k)[0]
    _likeliest(model, scratch, n)
    if hmm:
        _guess(model, scratch, n)
    i = 0
    while i < n:
        end = scratch.ends[i]
        used = _append(data, begin + 3 * i, begin + 3 * end, lengths, used)
        i = end
    return used


@compiled
def _cut_between(
    data: Any, begin: int, stop: int, kinds: Any, model: Any, hmm: bool, scratch: Any, lengths: Any
) -> Any:
    """Write the words of text in which nothing mixes, return how many; or -n where the run of n has no room."""
    i, used = begin, 0
    while i < stop:
        first, (c, step) = i, _han(data, i)
        if not FIRST <= c <= LAST:
            i = _word_end(data, first, i + step, kinds[c], stop, kinds)
            used = _append(data, first, i, lengths, used)
            continue
        while FIRST <= c <= LAST:
            i += 3
            c = _han(data, i)[0] if i < stop else np.uint32(0)
        n = (i - first) // 3
        if n > len(scratch.codes):
            return -n
        used = _cut_run(data, first, n, model, hmm, scratch, lengths, used)
    return used


@compiled
def _block_begin(data: Any, begin: int, i: int, joins: Any) -> int:
    """Return where the characters begin that join the one in which byte `i` lies; -1 if that one joins nothing."""
    found = -1
    while i >= begin:
        while data[i] & 0xC0 == 0x80:
            i -= 1
        if not joins[decode(data, i)[0]]:
            break
        found = i
        i -= 1
    return found


@compiled
def _find_mixed(data: Any, place: Any, n: Any, model: Any, scratch: Any) -> int:
    """Return how many words on the likeliest path through `n` characters mix; `mixed` holds where they lie."""
    _likeliest(model, scratch, n)
    found, k = 0, 0
    while k < n:
        begin, mixes, end = place, False, scratch.ends[k]
        for m in range(k, end):
            mixes |= not FIRST <= scratch.codes[m] <= LAST
            place += decode(data, place)[1]
        if mixes and end - k > 1:
            scratch.mixed[found] = begin, place
            found += 1
        k = end
    return found


@compiled
def _next_noticed(data: Any, i: Any, stop: Any, pairs: Any) -> Any:
    """Return the first byte of the next pair by which a word that mixes is noticed, or `stop`."""
    while i + 1 < stop:
        if pairs[(np.int64(data[i]) << 8) | data[i + 1]]:
            return i
        i += 1
    return stop


@compiled
def _cut_document(
    data: Any, begin: int, stop: int, kinds: Any, model: Any, hmm: bool, scratch: Any, lengths: Any
) -> Any:
    """Write the words of one document and return how many, or -n where the run of n characters has no room.

    Words that mix scripts come first, by the likeliest path through all that joins them, as jieba takes it; then what
    lies between.
    """
    codes, at, used = scratch.codes, begin, 0
    i = _next_noticed(data, begin, stop, model.pairs)
    while i < stop:
        first = _block_begin(data, at, i, model.joins)
        end, n = (i + 1, 0) if first < 0 else (first, 0)
        while first >= 0 and end < stop:
            c, step = decode(data, end)
            if not model.joins[c]:
                break
            if n < len(codes):
                codes[n] = c
            n += 1
            end += step
        if n > len(codes):
            return -n
        for m in range(_find_mixed(data, first, n, model, scratch)):
            word, word_end = scratch.mixed[m]
            words = _cut_between(data, at, word, kinds, model, hmm, scratch, lengths[used:])
            if words < 0:
                return words
            used = _append(data, word, word_end, lengths, used + words)
            at = word_end
        i = _next_noticed(data, end, stop, model.pairs)
    words = _cut_between(data, at, stop, kinds, model, hmm, scratch, lengths[used:])
    return words if words < 0 else used + words


@compiled(allocates=True)
def _cut(offsets: Any, data: Any, kinds: Any, model: Any, hmm: bool, lengths: Any, counts: Any) -> int:
    scratch = _new_scratch(256)
    used = 0
    for d in range(len(counts)):
        begin, stop, free = offsets[d], offsets[d + 1], lengths[used:]
        words = _cut_document(data, begin, stop, kinds, model, hmm, scratch, free)
        while words < 0:
            scratch = _new_scratch(-2 * words)
            words = _cut_document(data, begin, stop, kinds, model, hmm, scratch, free)
        counts[d] = words
        used += words
    return used
