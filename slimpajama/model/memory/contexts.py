"""What an index of the corpus says of the contexts before a token: how often each occurs, and what follows it.

A context is the last k tokens before a place of a text, k from 1 to K; it never reaches over a document token, but may
begin with one. All parts of an index are asked, and counts add up, so answers do not depend on how the corpus is cut
into parts.
"""

# P = parts of the index, T = tokens of the texts, Q = places that are asked, K = longest context, V = vocabulary,
# F = followers

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from slimpajama.text.kernels import compiled
from slimpajama.text.suffixes import Bounds, Ids, Order, Suffixes, followers, narrow, walk

# Followers of a context that are looked at, the first ones in the order of their ids. 64 gave 0.1 % fewer bits.
LOOKED_AT = 32
FEATURES = 5
# Places whose followers stand at once: 3 MB.
BLOCK = 1024
# A context that occurs so often has its followers kept, of so many contexts.
OFTEN, KEPT = 2048, 1024


class Places(NamedTuple):
    """Places in texts that lie end to end, and how far back each may look."""

    text: Ids
    """Shape (T,)."""
    at: Bounds
    """int64 (Q,): the place before which token; T is behind the last one."""
    before: Bounds
    """int64 (Q,): tokens before each place that belong to the same text, those before a document token left out."""


class Contexts(NamedTuple):
    """What follows the contexts before places; column k stands for the context of k tokens, 0 for none at all."""

    counts: NDArray[np.int64]
    """(Q, K + 1): how often a token follows the context."""
    targets: NDArray[np.int64]
    """(Q, K + 1): how often the token that stands at the place does."""
    features: NDArray[np.float64]
    """(Q, FEATURES * K + 1): what is known of the contexts before the token is seen; see `_describe`."""

    def take(self, some: slice | NDArray[np.bool_]) -> "Contexts":
        """Return what is said of some places."""
        return Contexts(self.counts[some], self.targets[some], self.features[some])


class _Followers(NamedTuple):
    """The first followers of contexts that parts have named so far, (Q, K + 1, F) each, ids ascending."""

    tokens: NDArray[np.int32]
    times: NDArray[np.int32]
    known: NDArray[np.int32]
    """(Q, K + 1): how many there are."""


def _none_seen(places: int, max_context: int) -> _Followers:
    shape = places, max_context + 1, LOOKED_AT
    return _Followers(np.zeros(shape, np.int32), np.zeros(shape, np.int32), np.zeros(shape[:2], np.int32))


class Corpus:
    """The parts of an index, asked together.

    Args:
        parts: Streams with their suffix arrays, all of one vocabulary.
        max_context: K.
    """

    def __init__(self, parts: Sequence[Suffixes], max_context: int) -> None:
        self.parts, self.max_context, self.document_id = parts, max_context, parts[0].document_id
        # Without the document token that a part begins with, which another one may end with.
        self.unigrams = np.zeros(len(parts[0].first) - 1)
        for part in parts:
            self.unigrams += np.diff(part.first)
            self.unigrams[part.document_id] -= 1
        self._followers = lru_cache(KEPT)(self._find_followers)

    def ask(self, places: Places) -> tuple[Contexts, list[tuple[Order, Order]]]:
        """Return what follows the contexts before places, and of each part the walk over the text."""
        K, Q = self.max_context, len(places.at)
        shape = Q, K + 1
        found = Contexts(np.zeros(shape, np.int64), np.zeros(shape, np.int64), np.zeros((Q, FEATURES * K + 1)))
        walks = [walk(part, places.text, K + 1) for part in self.parts]
        for start in range(0, Q, BLOCK):
            some = slice(start, start + BLOCK)
            chosen = Places(places.text, places.at[some], places.before[some])
            into, seen = found.take(some), _none_seen(len(chosen.at), K)
            for part, (lo, hi) in zip(self.parts, walks, strict=True):
                _count(part, chosen, lo, hi, into, seen)
            _describe(into, seen)
        return found, walks

    def spread(self, places: Places, walks: Sequence[tuple[Order, Order]], each: NDArray[np.float64], p: Any) -> None:
        """Add what follows the contexts before places to distributions.

        Args:
            each: (Q, K + 1), what one occurrence of a follower adds.
            p: float64 (Q, V), changed in place.
        """
        p += each[:, :1] * self.unigrams
        for number, (part, (lo, hi)) in enumerate(zip(self.parts, walks, strict=True)):
            _spread(part, places, lo, hi, each, p)
            for q, k, begin, end in _often(part, places, lo, hi, each):
                tokens, counts = self._followers(number, begin, end, k)
                p[q, tokens] += each[q, k] * counts

    def _find_followers(self, part: int, lo: int, hi: int, depth: int) -> tuple[NDArray[Any], NDArray[np.float64]]:
        tokens, counts = followers(self.parts[part], lo, hi, depth)
        return tokens.astype(np.int32), counts.astype(np.float64)


@compiled(inline=True)
def _interval(suffixes: Any, places: Any, q: Any, k: Any, lo: Any, hi: Any) -> Any:
    """Return the interval of the context of `k` tokens before place `q`, without the end of the stream behind it."""
    start = places.at[q] - k
    begin, end = np.int64(lo[start, k - 1]), np.int64(hi[start, k - 1])
    if begin < end and suffixes.order[begin] + k == len(suffixes.ids):
        begin += 1
    return begin, end


@compiled(allocates=True)
def _count(suffixes: Any, places: Any, lo: Any, hi: Any, found: Any, seen: Any) -> None:
    """Add a part's counts, and put its followers in among those of the parts before."""
    tokens, times = np.zeros(LOOKED_AT, np.int32), np.zeros(LOOKED_AT, np.int32)
    for q in range(len(places.at)):
        at = places.at[q]
        document = suffixes.document_id
        token = np.int64(places.text[at]) if at < len(places.text) else np.int64(document)
        found.counts[q, 0] += len(suffixes.ids) - 1
        found.targets[q, 0] += suffixes.first[token + 1] - suffixes.first[token] - (token == document)
        for k in range(1, min(found.counts.shape[1] - 1, places.before[q]) + 1):
            begin, end = _interval(suffixes, places, q, k, lo, hi)
            # What a longer context follows, follows this one, too.
            if begin >= end:
                break
            found.counts[q, k] += end - begin
            if token != document:
                found.targets[q, k] += hi[at - k, k] - lo[at - k, k]
            else:
                first, last = narrow(suffixes.ids, suffixes.order, begin, end, k, token)
                found.targets[q, k] += last - first
            n = _first_followers(suffixes, begin, end, k, tokens, times)
            _merge(seen, q, k, tokens[:n], times[:n])


@compiled
def _first_followers(suffixes: Any, begin: Any, end: Any, k: Any, tokens: Any, times: Any) -> Any:
    """Set the first followers of an interval and how often each occurs; return how many there are."""
    n = 0
    while begin < end and n < len(tokens):
        token = np.int64(suffixes.ids[suffixes.order[begin] + k])
        known, step = begin + 1, 1
        while known + step <= end and suffixes.ids[suffixes.order[known + step - 1] + k] == token:
            known += step
            step *= 2
        last = min(known + step - 1, end)
        while known < last:
            middle = (known + last) >> 1
            if suffixes.ids[suffixes.order[middle] + k] == token:
                known = middle + 1
            else:
                last = middle
        tokens[n], times[n] = token, known - begin
        n += 1
        begin = known
    return n


@compiled(allocates=True)
def _merge(seen: Any, q: Any, k: Any, tokens: Any, times: Any) -> None:
    """Keep the first of all followers: what is among them stands among the first of each part that holds it."""
    n = seen.known[q, k]
    if n == 0:
        seen.tokens[q, k, : len(tokens)], seen.times[q, k, : len(tokens)] = tokens, times
        seen.known[q, k] = len(tokens)
        return
    old_tokens, old_times = seen.tokens[q, k, :n].copy(), seen.times[q, k, :n].copy()
    i, j, at = 0, 0, 0
    while at < LOOKED_AT and (i < n or j < len(tokens)):
        token = old_tokens[i] if j == len(tokens) or (i < n and old_tokens[i] <= tokens[j]) else tokens[j]
        seen.tokens[q, k, at], seen.times[q, k, at] = token, 0
        if i < n and old_tokens[i] == token:
            seen.times[q, k, at] += old_times[i]
            i += 1
        if j < len(tokens) and tokens[j] == token:
            seen.times[q, k, at] += times[j]
            j += 1
        at += 1
    seen.known[q, k] = at


@compiled
def _describe(found: Any, seen: Any) -> None:
    """Set the features: of each length whether the context is known, how often it occurs, how many different tokens
    follow it, the share of the most frequent of them and that of those seen once; and the longest known length."""
    longest = found.counts.shape[1] - 1
    for q in range(len(found.counts)):
        for k in range(1, longest + 1):
            n, at = seen.known[q, k], FEATURES * (k - 1)
            if n == 0:
                break
            total, top, once = 0, 0, 0
            for i in range(n):
                times = seen.times[q, k, i]
                total += times
                top = max(top, times)
                once += times == 1
            # Divided so that most lie between 0 and 2.
            found.features[q, at] = 1.0
            found.features[q, at + 1] = math.log(found.counts[q, k]) / 4
            found.features[q, at + 2] = math.log(n) / 4
            found.features[q, at + 3] = top / total
            found.features[q, at + 4] = once / total
            found.features[q, FEATURES * longest] = k / longest


@compiled
def _spread(suffixes: Any, places: Any, lo: Any, hi: Any, each: Any, p: Any) -> None:
    """Add the followers of the contexts that do not occur often."""
    for q in range(len(places.at)):
        for k in range(1, min(each.shape[1] - 1, places.before[q]) + 1):
            begin, end = _interval(suffixes, places, q, k, lo, hi)
            if begin >= end:
                break
            if end - begin < OFTEN:
                for i in range(begin, end):
                    p[q, suffixes.ids[suffixes.order[i] + k]] += each[q, k]


@compiled(allocates=True)
def _often(suffixes: Any, places: Any, lo: Any, hi: Any, each: Any) -> Any:
    """Return place, length and interval of each context that occurs often: (n, 4)."""
    found = [(0, 0, 0, 0) for _ in range(0)]
    for q in range(len(places.at)):
        for k in range(1, min(each.shape[1] - 1, places.before[q]) + 1):
            begin, end = _interval(suffixes, places, q, k, lo, hi)
            if end - begin < OFTEN:
                break
            found.append((q, k, int(begin), int(end)))
    return found
