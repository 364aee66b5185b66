"""Who survives among near-duplicates, and which documents belong together.

Documents are numbered in order of survival: those of earlier nights first, then by source priority, length and
id. By default each is removed exactly if an earlier-numbered, surviving document is within the threshold of itself:
stars, not chains, so nothing is ever removed for a keeper that it does not resemble. Components are what chains make
of the same pairs: they keep a family of texts on one side of the train and test split and, by option, one of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from slimpajama.dedup.spill import Packed

__all__ = ["Verdict", "components", "judge"]


class Verdict(NamedTuple):
    """What becomes of N documents."""

    partner: npt.NDArray[np.int64]
    """[N]: the kept document it duplicates, -1 where it is not removed here."""
    jaccard: npt.NDArray[np.float64]
    """[N]: exact similarity to that partner; NaN where there is none, or where the two were not compared."""
    component: npt.NDArray[np.uint32]
    """[N]: smallest number of its connected component."""


def judge(
    pairs: Packed,
    similarity: npt.NDArray[np.float64],
    n: int,
    kept_before: npt.NDArray[np.bool_],
    clusters: str = "stars",
) -> Verdict:
    """Decide over N documents from their similar pairs.

    Args:
        pairs: Packed pairs, both within the threshold of each other; any order.
        similarity: float64 [P], exact Jaccard similarity of each pair.
        n: Number of documents.
        kept_before: bool [M], whether each of the first M documents, of earlier nights, was kept then. They are
            not judged again, and one that was removed then is nobody's partner.
        clusters: `stars`, or `components`: then every document that chains of pairs join to an earlier-numbered
            survivor is removed, like it or not.

    Returns:
        The verdict. Of several partners of a star the most similar one, of equals the first; in a component the
        first survivor.
    """
    first = pairs >> np.uint64(32)
    order = np.lexsort((first, -similarity, pairs & np.uint64(0xFFFFFFFF)))
    pairs, similarity = pairs[order], similarity[order]
    partner, jaccard = np.full(n, -1, np.int64), np.full(n, np.nan)
    kept = np.ones(n, np.bool_)
    kept[: len(kept_before)] = kept_before
    component = components([pairs], n)
    if clusters == "stars":
        _stars(pairs, similarity, len(kept_before), kept, partner, jaccard)
    else:
        _one_each(component, len(kept_before), kept, partner)
        to_keeper = partner[pairs & np.uint64(0xFFFFFFFF)] == pairs >> np.uint64(32)
        jaccard[pairs[to_keeper] & np.uint64(0xFFFFFFFF)] = similarity[to_keeper]
    return Verdict(partner, jaccard, component)


def components(blocks: Iterable[Packed], n: int) -> npt.NDArray[np.uint32]:
    """Return uint32 [N], the smallest number of each document's connected component, from packed pairs."""
    parent = np.arange(n, dtype=np.uint32)
    for packed in blocks:
        _connect(packed, parent)
    _settle(parent)
    return parent


@numba.njit(nogil=True, cache=True)
def _stars(pairs: Any, similarity: Any, judged_from: int, kept: Any, partner: Any, jaccard: Any) -> None:
    for p in range(len(pairs)):  # by second document: every possible partner of it is decided by now
        first, second = np.int64(pairs[p] >> np.uint64(32)), np.int64(pairs[p] & np.uint64(0xFFFFFFFF))
        if second >= judged_from and kept[second] and kept[first]:
            kept[second] = False
            partner[second] = first
            jaccard[second] = similarity[p]


@numba.njit(nogil=True, cache=True)
def _one_each(component: Any, judged_from: int, kept: Any, partner: Any) -> None:
    """Keep the first survivor of each component."""
    keeper = np.full(len(component), -1, np.int64)
    for d in range(len(component)):
        root = component[d]
        if d >= judged_from and keeper[root] >= 0:
            partner[d] = keeper[root]
        elif kept[d] and keeper[root] < 0:
            keeper[root] = d


@numba.njit(nogil=True, cache=True)
def _connect(pairs: Any, parent: Any) -> None:
    """Union-find in place over packed pairs, roots at the smallest number."""
    for p in range(len(pairs)):
        a, b = np.int64(pairs[p] >> np.uint64(32)), np.int64(pairs[p] & np.uint64(0xFFFFFFFF))
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = np.int64(parent[a])
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = np.int64(parent[b])
        parent[max(a, b)] = min(a, b)


@numba.njit(nogil=True, cache=True)
def _settle(parent: Any) -> None:
    """Point every document straight to its root: a parent is never larger than its child, so it is settled already."""
    for d in range(len(parent)):
        parent[d] = parent[parent[d]]
