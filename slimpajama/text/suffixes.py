"""Suffix arrays over token ids: what follows a sequence of tokens, how often it occurs, and where.

A stream of ids holds documents one after the other, a document token before each and behind the last. Its suffix array
lists all positions in the order of what begins there, so the occurrences of a sequence stand side by side: an interval
[lo, hi) of it. A match never goes on over a document token; it may begin with one.

Source: Manber and Myers 1993, "Suffix arrays: a new method for on-line string searches".
"""

# N = tokens of the stream, V = size of the vocabulary, T = tokens of a text, K = longest match that is asked for

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slimpajama.text.kernels import compiled

Ids = npt.NDArray[np.unsignedinteger[Any]]
Order = npt.NDArray[np.int32]
Bounds = npt.NDArray[np.int64]
# Ids of more than 16 bits are sorted as three bytes, which makes three suffixes of each.
MOST_TOKENS = (1 << 31) // 3
# From so many starts on it pays to visit them in the order of what begins there.
SORTED_FROM = 4096


class Suffixes(NamedTuple):
    """A stream of ids with its suffix array; kernels take it as it is."""

    ids: Ids
    """uint16 or uint32 [N]."""
    order: Order
    """int32 [N], positions in the order of the suffixes; the end of the stream comes before every token."""
    first: Bounds
    """int64 [V + 1], where the suffixes that begin with each id begin in `order`."""
    document_id: int
    """The token that separates documents."""


def id_type(vocab_size: int) -> type[np.unsignedinteger[Any]]:
    """Return the type that the ids of a vocabulary are kept in."""
    return np.uint16 if vocab_size <= 1 << 16 else np.uint32


def suffixes_of(ids: Ids, vocab_size: int, document_id: int) -> Suffixes:
    """Return a stream of ids with its suffix array, in memory.

    Raises:
        ValueError: The stream is too long, or holds an id that the vocabulary does not have.
    """
    ids = np.ascontiguousarray(ids, id_type(vocab_size))[:]
    counts = np.zeros(vocab_size + 1, np.int64)
    if not _count(ids, counts):
        raise ValueError(f"ids must be below {vocab_size}, found {ids.max()}")
    found = Suffixes(ids, build(ids, vocab_size), np.cumsum(counts), document_id)
    # As files that are mapped: kernels are compiled once for both.
    for array in found[:3]:
        array.setflags(write=False)
    return found


def is_whole(suffixes: Suffixes, vocab_size: int) -> bool:
    """Return whether the arrays are what `suffixes_of` gives; kernels would follow others out of bounds.

    Takes 4 bytes of memory a token, and about a fifth of the time that the arrays took to make.
    """
    ids, order, first, document_id = suffixes
    counts = np.zeros(vocab_size + 1, np.int64)
    types = tuple(np.dtype(kind) for kind in (id_type(vocab_size), np.int32, np.int64))
    return (
        (ids.dtype, order.dtype, first.dtype) == types
        and len(ids) == len(order)
        and document_id == ids[0]
        and bool(_count(ids, counts))
        and np.array_equal(np.cumsum(counts), first)
        and bool(_is_in_order(ids, order))
    )


def build(ids: Ids, vocab_size: int) -> Order:
    """Return the suffix array of a stream of ids, int32 [N]; it takes 14 bytes of memory a token of 16 bits.

    The library sorts strings of bytes: ids are given to it with their highest byte first, and of the suffixes that it
    returns those stay that begin with an id.

    Raises:
        ValueError: If there are more than MOST_TOKENS ids.
    """
    if len(ids) > MOST_TOKENS:
        raise ValueError(f"at most {MOST_TOKENS} ids, found {len(ids)}")
    if not len(ids):
        return np.zeros(0, np.int32)
    import pydivsufsort

    width = 2 if vocab_size <= 1 << 16 else 3
    order = pydivsufsort.divsufsort(_bytes(ids, width))
    _drop_inner(order, width)
    return np.array(order[: len(ids)])


def _bytes(ids: Ids, width: int) -> npt.NDArray[np.uint8]:
    """Return the last bytes of each id, the highest first."""
    data = ids.astype(">u4" if width == 3 else ">u2").view(np.uint8).reshape(len(ids), -1)
    return np.ascontiguousarray(data[:, -width:]).reshape(-1)


def walk(suffixes: Suffixes, text: Ids, max_length: int) -> tuple[Order, Order]:
    """Return where `text[i : i + k]` occurs, for every start `i` and each length `k` of 1 to K.

    Args:
        suffixes: What is searched.
        text: uint16 or uint32 [T].
        max_length: K.

    Returns:
        Two arrays int32 [T, K]: column k - 1 holds the interval of length k; lo = hi = 0 where there is none.
    """
    text = np.ascontiguousarray(text, suffixes.ids.dtype)
    # Starts that begin alike share their first intervals, and read the same memory one after the other.
    starts = np.arange(len(text), dtype=np.int32)
    if len(text) >= SORTED_FROM:
        starts = build(text, len(suffixes.first) - 1)
    lo, hi = (np.zeros((len(text), max_length), np.int32) for _ in range(2))
    _walk(suffixes, text, starts, lo, hi)
    return lo, hi


@compiled
def _count(ids: Any, counts: Any) -> bool:
    for i in range(len(ids)):
        if ids[i] >= len(counts) - 1:
            return False
        counts[ids[i] + 1] += 1
    return True


@compiled(allocates=True)
def _is_in_order(ids: Any, order: Any) -> bool:
    """Return whether these are all positions, each once, in the order of their suffixes."""
    # Of each position; the end of the stream comes first.
    rank = np.full(len(ids) + 1, -1, np.int32)
    for i in range(len(order)):
        if not 0 <= order[i] < len(ids) or rank[order[i]] >= 0:
            return False
        rank[order[i]] = i
    for i in range(1, len(order)):
        a, b = order[i - 1], order[i]
        if ids[a] > ids[b] or (ids[a] == ids[b] and rank[a + 1] > rank[b + 1]):
            return False
    return True


@compiled
def _drop_inner(order: Any, width: Any) -> None:
    """Move the suffixes that begin with an id to the front, and make positions of bytes positions of ids."""
    kept = 0
    for i in range(len(order)):
        position = order[i] // width
        if position * width == order[i]:
            order[kept] = position
            kept += 1


@compiled(inline=True)
def _at(ids: Any, position: Any) -> Any:
    """Return the id at a position; behind the stream's end one that is less than any."""
    return np.int64(ids[position]) if position < len(ids) else np.int64(-1)


@compiled
def narrow(ids: Any, order: Any, lo: Any, hi: Any, depth: Any, token: Any) -> Any:
    """Return the interval of the suffixes in [lo, hi), which share `depth` tokens, that go on with `token`."""
    begin, end = np.int64(lo), np.int64(hi)
    while begin < end:
        middle = (begin + end) >> 1
        if _at(ids, order[middle] + depth) < token:
            begin = middle + 1
        else:
            end = middle
    known, step = begin, 1
    while known + step <= hi and _at(ids, order[known + step - 1] + depth) == token:
        known += step
        step *= 2
    end = min(known + step - 1, np.int64(hi))
    while known < end:
        middle = (known + end) >> 1
        if _at(ids, order[middle] + depth) == token:
            known = middle + 1
        else:
            end = middle
    return begin, known


@compiled
def _walk(suffixes: Any, text: Any, starts: Any, lo: Any, hi: Any) -> None:
    before = -1
    for start in starts:
        k = 0
        same = before >= 0
        while k < lo.shape[1] and start + k < len(text):
            token = text[start + k]
            if k and token == suffixes.document_id:
                break
            same = same and before + k < len(text) and text[before + k] == token
            if same:
                begin, end = np.int64(lo[before, k]), np.int64(hi[before, k])
            elif k:
                begin, end = narrow(suffixes.ids, suffixes.order, lo[start, k - 1], hi[start, k - 1], k, token)
            else:
                begin, end = suffixes.first[token], suffixes.first[token + 1]
            if begin == end:
                break
            lo[start, k], hi[start, k] = begin, end
            k += 1
        before = start


@compiled
def longest(suffixes: Any, text: Any, start: Any, end: Any) -> Any:
    """Return length and interval of the longest match of `text[start:end]`'s beginning; 0, 0, 0 where there is none."""
    if start >= end or suffixes.first[text[start]] == suffixes.first[text[start] + 1]:
        return 0, np.int64(0), np.int64(0)
    lo, hi = suffixes.first[text[start]], suffixes.first[text[start] + 1]
    length = 1
    while start + length < end and text[start + length] != suffixes.document_id:
        token = text[start + length]
        begin, stop = lo, hi
        # Sorted as they are, all go on alike where the first and the last do.
        if not (
            _at(suffixes.ids, suffixes.order[lo] + length) == token
            and _at(suffixes.ids, suffixes.order[hi - 1] + length) == token
        ):
            begin, stop = narrow(suffixes.ids, suffixes.order, lo, hi, length, token)
        if begin == stop:
            break
        lo, hi = begin, stop
        length += 1
    return length, lo, hi


@compiled(allocates=True)
def maximal(suffixes: Any, text: Any, min_length: Any) -> Any:
    """Return the matches of a text that cannot be made longer on either side, and lie in no other one.

    Returns:
        int64 [matches, 4] in the order of the text: begin and end in the text, and the interval.
    """
    found = np.empty((16, 4), np.int64)
    count, start = 0, 0
    while start < len(text):
        length, lo, hi = longest(suffixes, text, start, len(text))
        if length == 0:
            start += 1
            continue
        end = start + length
        if length >= min_length:
            if count == len(found):
                found = np.concatenate((found, np.empty_like(found)))
            found[count, 0], found[count, 1], found[count, 2], found[count, 3] = start, end, lo, hi
            count += 1
        if end == len(text):
            break
        start = _next_start(suffixes, text, start, end)
    return found[:count].copy()


@compiled
def _next_start(suffixes: Any, text: Any, start: Any, end: Any) -> Any:
    """Return the first start behind `start` from which a match reaches over `end`; behind `end` where none does.

    Such starts lie side by side before `end`. So they are looked for from there, in steps that double: copied text of
    any length takes a few searches, not one a token.
    """
    yes, no, step = end + 1, start, 1
    while yes - step > no:
        if longest(suffixes, text, yes - step, end + 1)[0] == end + 1 - (yes - step):
            yes -= step
            step *= 2
        else:
            no = yes - step
    while yes - no > 1:
        middle = (yes + no) >> 1
        if longest(suffixes, text, middle, end + 1)[0] == end + 1 - middle:
            yes = middle
        else:
            no = middle
    return yes


@compiled(allocates=True)
def followers(suffixes: Any, lo: Any, hi: Any, depth: Any) -> Any:
    """Return the different tokens that follow the first `depth` tokens of an interval, and how often each does.

    Returns:
        Two arrays int64, in the order of the tokens. The document token stands for the end of a document.
    """
    most = min(hi - lo, len(suffixes.first) - 1)
    tokens, counts = np.empty(most, np.int64), np.empty(most, np.int64)
    count = 0
    while lo < hi:
        token = _at(suffixes.ids, suffixes.order[lo] + depth)
        begin, end = narrow(suffixes.ids, suffixes.order, lo, hi, depth, token)
        if token >= 0:
            tokens[count], counts[count] = token, end - begin
            count += 1
        lo = end
    return tokens[:count].copy(), counts[:count].copy()
