"""Who survives among near-duplicates, and which documents belong together.

Documents are numbered in order of survival: those of earlier nights first, then by source priority, length and
id. Each is removed exactly if an earlier-numbered, surviving document is within the threshold of itself: stars,
not chains, so nothing is ever removed for a keeper that it does not resemble. Components are what chains make of
the same pairs; they remove nothing, they keep a family of texts on one side of the train and test split.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
import numpy.typing as npt

__all__ = ["Verdict", "judge"]


class Verdict(NamedTuple):
    """What becomes of N documents."""

    partner: npt.NDArray[np.int64]
    """[N]: the kept document it duplicates, -1 where it is not removed here."""
    jaccard: npt.NDArray[np.float64]
    """[N]: exact similarity to that partner, NaN where there is none."""
    component: npt.NDArray[np.int64]
    """[N]: smallest number of its connected component."""


def judge(
    pairs: npt.NDArray[np.int64], similarity: npt.NDArray[np.float64], n: int, kept_before: npt.NDArray[np.bool_]
) -> Verdict:
    """Decide over N documents from their similar pairs.

    Args:
        pairs: int64 [P, 2], first < second, both within the threshold of each other; any order.
        similarity: float64 [P], exact Jaccard similarity of each pair.
        n: Number of documents.
        kept_before: bool [M], whether each of the first M documents, of earlier nights, was kept then. They are
            not judged again, and one that was removed then is nobody's partner.

    Returns:
        The verdict; of several possible partners the most similar one, of equals the first.
    """
    order = np.lexsort((pairs[:, 0], -similarity, pairs[:, 1]))
    pairs, similarity = pairs[order], similarity[order]
    partner, jaccard = np.full(n, -1, np.int64), np.full(n, np.nan)
    kept = np.ones(n, np.bool_)
    kept[: len(kept_before)] = kept_before
    _stars(pairs, similarity, len(kept_before), kept, partner, jaccard)
    component = np.arange(n)
    _components(pairs, component)
    return Verdict(partner, jaccard, component)


@numba.njit(nogil=True, cache=True)
def _stars(pairs: Any, similarity: Any, judged_from: int, kept: Any, partner: Any, jaccard: Any) -> None:
    for p in range(len(pairs)):  # by second document: every possible partner of it is decided by now
        first, second = pairs[p, 0], pairs[p, 1]
        if second >= judged_from and kept[second] and kept[first]:
            kept[second] = False
            partner[second] = first
            jaccard[second] = similarity[p]


@numba.njit(nogil=True, cache=True)
def _components(pairs: Any, parent: Any) -> None:
    """Union-find in place, roots at the smallest number."""
    for p in range(len(pairs)):
        a, b = pairs[p, 0], pairs[p, 1]
        while parent[a] != a:
            parent[a] = parent[parent[a]]
            a = parent[a]
        while parent[b] != b:
            parent[b] = parent[parent[b]]
            b = parent[b]
        parent[max(a, b)] = min(a, b)
    for d in range(len(parent)):  # a parent is never larger than its child, so it is settled already
        parent[d] = parent[parent[d]]
