"""One-permutation hashing: a MinHash signature from one hash a shingle instead of `num_perm`.

The hash's range is cut into `num_perm` bins and each bin keeps its minimum. A bin that no shingle fell into
borrows from another by a fixed random order of its own, so that two documents borrow alike: the first bin of
that order that is filled. Equal entries then estimate the Jaccard similarity as in plain MinHash.

Sources: Li, Owen, Zhang 2012, "One Permutation Hashing"; Shrivastava 2017, "Optimal Densification for Fast and
Accurate Minwise Hashing" (the order here is a permutation instead of independent draws, so it always ends).
"""

from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from slimpajama.core.split import mixed
from slimpajama.text.kernels import compiled

EMPTY = 0xFFFFFFFF


def oph_signatures(
    chars: npt.NDArray[np.uint32], offsets: npt.NDArray[np.int64], ngram: int, num_perm: int, seed: int
) -> npt.NDArray[np.uint32]:
    """Return signatures, uint32 [N, num_perm], of documents given as code points end to end.

    A document shorter than `ngram` characters is one shingle: itself.
    """
    n = len(offsets) - 1
    out = np.full((n, num_perm), EMPTY, np.uint32)
    longest = int(np.diff(offsets).max(initial=0))
    scratch = np.empty((2, longest), np.uint32)
    orders, ranks = _borrowing(num_perm, seed)
    _signatures(chars, offsets, ngram, np.uint32(seed * 0x9E3779B1 & 0xFFFFFFFF), scratch, orders, ranks, out)
    return out


@lru_cache(maxsize=4)
def _borrowing(num_perm: int, seed: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
    """Return each bin's order of lenders and, inverted, each lender's rank in it; both [num_perm, num_perm]."""
    x = np.arange(num_perm * num_perm, dtype=np.uint64) + np.uint64((seed & 0xFFFFFFFF) << 32)
    orders = np.argsort(mixed(x).reshape(num_perm, num_perm), axis=1, kind="stable")
    return orders.astype(np.int32), np.argsort(orders, axis=1, kind="stable").astype(np.int32)


@compiled
def _start(chars: Any, seed: Any, out: Any) -> None:
    for i in range(len(out)):
        x = np.uint32((chars[i] ^ seed) * np.uint32(0x85EBCA6B))
        out[i] = x ^ (x >> np.uint32(13))


@compiled
def _join(left: Any, right: Any, out: Any) -> None:
    """Hash two neighbouring runs from the hashes of each; not the same in the other order."""
    for i in range(len(out)):
        x = np.uint32(left[i] * np.uint32(0xCC9E2D51))
        y = np.uint32(right[i] * np.uint32(0x1B873593))
        out[i] = ((x << np.uint32(15)) | (x >> np.uint32(17))) + (y ^ (y >> np.uint32(15)))


@compiled
def _finish(runs: Any, out: Any) -> None:
    for i in range(len(out)):
        x = runs[i]
        x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x85EBCA6B))
        x = np.uint32((x ^ (x >> np.uint32(13))) * np.uint32(0xC2B2AE35))
        out[i] = x ^ (x >> np.uint32(16))


@compiled(allocates=True)
def _shingles(chars: Any, ngram: int, seed: Any, a: Any, b: Any) -> Any:
    """Hash every shingle of one document by log-doubling: runs of 1, 2, 4, ... characters, joined in pairs.

    A shingle whose width is no power of two is two overlapping runs. Each pass is a function of its own with
    separate input and output: the compiler makes vector code of that (0.11 ns a character and pass), but not of
    the same loop in place (3 ns).
    """
    n = len(chars)
    width = min(ngram, n)
    if width == 0:
        return a[:0]
    _start(chars, seed, a[:n])
    done = 1
    while done < width:
        step = min(done, width - done)
        _join(a, a[step:], b[: n - done - step + 1])
        a, b = b, a
        done += step
    _finish(a, b[: n - width + 1])
    return b[: n - width + 1]


@compiled(allocates=True)
def _borrow(row: Any, filled: Any, orders: Any, ranks: Any) -> None:
    """Fill the empty bins of one signature."""
    bins, n = len(row), 0
    for j in range(bins):
        if row[j] != EMPTY:
            filled[n] = j
            n += 1
    if n in (0, bins):
        return
    # With few filled bins it is cheaper to compare the ranks of all than to walk the order until one is filled.
    few = n * n < bins
    lent = row.copy()
    for j in range(bins):
        if lent[j] != EMPTY:
            continue
        if few:
            best = filled[0]
            for k in range(1, n):
                if ranks[j, filled[k]] < ranks[j, best]:
                    best = filled[k]
            row[j] = lent[best]
        else:
            for k in range(bins):
                if lent[orders[j, k]] != EMPTY:
                    row[j] = lent[orders[j, k]]
                    break


@compiled(allocates=True)
def _signatures(
    chars: Any, offsets: Any, ngram: int, seed: Any, scratch: Any, orders: Any, ranks: Any, out: Any
) -> None:
    bins = np.uint64(out.shape[1])
    filled = np.empty(out.shape[1], np.int32)
    for d in range(len(offsets) - 1):
        row = out[d]
        for value in _shingles(chars[offsets[d] : offsets[d + 1]], ngram, seed, scratch[0], scratch[1]):
            j = (np.uint64(value) * bins) >> np.uint64(32)
            row[j] = min(row[j], value)
        _borrow(row, filled, orders, ranks)
