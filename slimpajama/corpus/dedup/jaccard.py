"""Exact Jaccard similarity of shingle sets, for the few pairs that share a band key.

A shingle is its 64-bit hash: two different shingles of a pair of 16 MB documents meet by chance with
probability 2^-16, and would move the similarity by less than 10^-7. The first document of a run of pairs is laid
out as a hash table; the others are looked up in it, so a document costs one pass a pair and nothing is sorted. The
pass ends where the similarity cannot reach `least` any more.

Most candidates are unlike, and a sample says so: the shingles whose hash is below a bound, the same for all
documents. Of the m that a pair's samples hold together a share a is in both; were the similarity t or more, a that low
would have a chance of at most exp(-m D(a || t)), D the Kullback-Leibler divergence of two coins (Hoeffding 1963, whose
bound covers samples without replacement). Only a pair with less than `UNLIKELY` of it is called unlike unseen.

Memory: 13 bytes a character for the documents at hand (20 where one shingle repeats and is in the sample) and 33 to 55
for the largest pair's table, per worker.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slimpajama.corpus.dedup.normalise import normalise_block
from slimpajama.text.buffers import text_buffers
from slimpajama.text.kernels import GOLDEN, compiled

Counts = npt.NDArray[np.int64]

# Shingles hashed at a time, so that a long document stays in the cache.
WINDOW = 4096
# Hashes below are in a document's sample: one of 8.
SAMPLED = np.uint64(2**61)
# -log of a chance of 2 in 10^9.
UNLIKELY = 20.0


class _Table(NamedTuple):
    """The shingles of a pair's first document, to look those of the second one up in."""

    slots: npt.NDArray[np.uint64]
    """[a power of two, 2]: shingle, and place of its first occurrence."""
    first: npt.NDArray[np.int32]
    """That place for each shingle of the document."""
    seen: npt.NDArray[np.int32]
    """Number of the last pair that shares the shingle which first occurs there."""
    added: npt.NDArray[np.int32]
    """Slots of the shingles that only the second document has."""


def jaccard(
    texts: pa.LargeStringArray,
    pairs: npt.NDArray[np.int64],
    ngram: int,
    least: float = 0.0,
    *,
    drop_punctuation: bool = False,
) -> npt.NDArray[np.float64]:
    """Return |A n B| / |A u B|, float64 [P], of the sets of `ngram`-character shingles of pairs of texts, int64 [P, 2].

    Texts are normalised first; one shorter than `ngram` characters is one shingle: itself. Similarities from `least` on
    are exact; a pair below may be given as 0. Sorted pairs are fastest.
    """
    block = normalise_block(*text_buffers(texts), drop_punctuation=drop_punctuation)
    starts, lengths = block.char_offsets[:-1], np.diff(block.char_offsets)
    # Shingles, repeats included.
    counts = np.where(lengths > 0, np.maximum(lengths - ngram + 1, 1), 0)
    scratch = np.empty((2, WINDOW + ngram), np.uint64)
    # Document d's begin at its first character.
    hashes = np.empty(len(block.chars), np.uint64)
    sample, ends = np.empty(len(hashes) + 1, np.uint64), np.zeros(len(counts) + 1, np.int64)
    _hash_documents(block.chars, block.char_offsets, counts, scratch, hashes, sample, ends)
    some = np.arange(len(pairs))
    if least > 0:
        some = np.flatnonzero(_likely(*_intersect(sample, ends[:-1], np.diff(ends), pairs, 0.0), least))
    out = np.zeros(len(pairs))
    shared, union = _intersect(hashes, starts, counts, pairs[some], least)
    # Two empty documents are the same document.
    out[some] = np.where(union > 0, shared / np.maximum(union, 1), 1.0)
    return out


def _likely(shared: Counts, union: Counts, least: float) -> npt.NDArray[np.bool_]:
    """Say from two samples' intersection and union whether the documents may be as similar as `least`."""
    share = shared / np.maximum(union, 1)
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        both = np.where(shared > 0, share * np.log(share / least), 0.0)
        divergence = both + (1 - share) * np.log((1 - share) / (1 - least))
        return (share >= least) | ~(union * divergence > UNLIKELY)


def _intersect(
    hashes: npt.NDArray[np.uint64], starts: Counts, counts: Counts, pairs: npt.NDArray[np.int64], least: float
) -> tuple[Counts, Counts]:
    """Return sizes of the pairs' intersections and unions; no intersection where `least` is out of reach."""
    most = int(counts[pairs].sum(axis=1).max(initial=0))
    space = _Table(np.zeros((_slots(most), 2), np.uint64), *np.zeros((3, most), np.int32))
    out = np.empty((2, len(pairs)), np.int64)
    _compare(hashes, starts, counts, pairs, space, least, out)
    return out[0], out[1]


@compiled
def _start(chars: Any, out: Any) -> None:
    for i in range(len(out)):
        x = np.uint64(chars[i]) * GOLDEN
        out[i] = x ^ (x >> np.uint64(29))


@compiled
def _join(left: Any, right: Any, out: Any) -> None:
    """Hash two neighbouring runs from the hashes of each; not the same in the other order."""
    for i in range(len(out)):
        x = left[i] * np.uint64(0xBF58476D1CE4E5B9)
        y = right[i] * np.uint64(0x94D049BB133111EB)
        out[i] = ((x << np.uint64(31)) | (x >> np.uint64(33))) + (y ^ (y >> np.uint64(29)))


@compiled
def _finish(runs: Any, out: Any) -> None:
    for i in range(len(out)):
        x = runs[i]
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
        # 0 marks a free slot.
        out[i] = max(x, np.uint64(1))


@compiled
def _hash_documents(chars: Any, offsets: Any, counts: Any, scratch: Any, out: Any, sample: Any, ends: Any) -> None:
    """Hash every shingle by log-doubling, as in `minhash`; in 64 bits, because a collision would change the result.

    The hashes of the sample are put end to end, too; document d's are `sample[ends[d]:ends[d + 1]]`.
    """
    n_sampled = np.int64(0)
    for d in range(len(counts)):
        end = offsets[d + 1]
        width = end - offsets[d] - counts[d] + 1
        for start in range(offsets[d], offsets[d] + counts[d], WINDOW):
            text = chars[start : min(end, start + WINDOW + width - 1)]
            n = len(text)
            a, b = scratch[0], scratch[1]
            _start(text, a[:n])
            done = 1
            while done < width:
                step = min(done, width - done)
                _join(a, a[step:], b[: n - done - step + 1])
                a, b = b, a
                done += step
            _finish(a, out[start : start + n - width + 1])
            # Without a branch, which the processor would predict badly.
            for i in range(start, start + n - width + 1):
                sample[n_sampled] = out[i]
                n_sampled += np.int64(out[i] < SAMPLED)
        ends[d + 1] = n_sampled


@compiled
def _slots(shingles: int) -> int:
    """Return a table's size: a power of two that is at most three quarters full."""
    size = 16
    while 3 * size < 4 * shingles:
        size *= 2
    return size


@compiled
def _find(slots: Any, value: Any) -> Any:
    """Return the slot that holds `value`, or the free one (0) where it would go.

    Key and place lie side by side and a hash needs no spreading: 4 % faster than `find_slot`.
    """
    # Unsigned: a signed index would be checked for being negative.
    last = np.uint64(len(slots) - 1)
    slot = value & last
    while slots[slot, 0] and slots[slot, 0] != value:
        slot = (slot + np.uint64(1)) & last
    return slot


@compiled
def _lay_out(values: Any, table: Any) -> int:
    """Fill a table with a document's shingles and return how many differ."""
    slots, first = table.slots, table.first
    slots[:] = 0
    distinct = 0
    for i in range(len(values)):
        slot = _find(slots, values[i])
        if not slots[slot, 0]:
            slots[slot, 0] = values[i]
            slots[slot, 1] = i
            distinct += 1
        first[i] = slots[slot, 1]
    return distinct


@compiled
def _look_up(ours: Any, theirs: Any, table: Any, distinct: int, pair: int, least: float) -> tuple[int, int]:
    """Return how many distinct shingles of the second document the first one has, and has not; 0 if too few.

    Near-duplicates share long runs, so the shingle after the last one that was found is tried first: that reads
    memory in order, where the table costs a cache miss. Shingles that only the second document has go into the
    table too, so that their repeats are known, and come out again, last one first, as linear probing demands.
    """
    slots, first, seen, added = table
    n, following, shared, new = len(ours), np.int64(0), 0, 0
    for i in range(len(theirs)):
        value = theirs[i]
        if following < n and ours[following] == value:
            place = np.int64(first[following])
            following += 1
        else:
            slot = _find(slots, value)
            if not slots[slot, 0]:
                slots[slot, 0] = value
                slots[slot, 1] = n + new
                added[new] = slot
                new += 1
                reachable = min(distinct, shared + len(theirs) - 1 - i)
                # The small number is for rounding errors: never too early.
                if reachable + 1e-6 < least * (distinct + new):
                    shared = 0
                    break
                continue
            place = np.int64(slots[slot, 1])
            if place >= n:
                continue
            following = place + 1
        if seen[place] != pair:
            seen[place] = pair
            shared += 1
    for k in range(new - 1, -1, -1):
        slots[added[k], 0] = 0
    return shared, new


@compiled
def _compare(hashes: Any, starts: Any, counts: Any, pairs: Any, space: Any, least: Any, out: Any) -> None:
    table, laid_out, distinct = space, -1, 0
    for p in range(len(pairs)):
        a, b = pairs[p, 0], pairs[p, 1]
        ours, theirs = hashes[starts[a] : starts[a] + counts[a]], hashes[starts[b] : starts[b] + counts[b]]
        size = _slots(counts[a] + counts[b])
        if a != laid_out or size > len(table.slots):
            table, laid_out = _Table(space.slots[:size], space.first, space.seen, space.added), a
            distinct = _lay_out(ours, table)
        shared, new = _look_up(ours, theirs, table, distinct, p + 1, least)
        out[0, p], out[1, p] = shared, distinct + new
