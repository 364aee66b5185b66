"""Who survives among near-duplicates, and which documents belong together.

Documents are numbered in order of survival: those of earlier nights first, then by source priority, length and
id. By default a document is removed exactly if an earlier-numbered, surviving document is within the threshold of it:
its keeper is the nearest of these, so nothing is ever removed for a keeper that it does not resemble. A component is
all that chains of such pairs connect: it stays on one side of the train and test split and, by option, keeps one text.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from slimpajama.corpus.dedup.spill import HALF, Packed, Scored
from slimpajama.text.kernels import compiled

# Pairs that are sorted together; those of one document are never split.
AT_ONCE = 500_000


class Verdict(NamedTuple):
    """What becomes of N documents."""

    partner: npt.NDArray[np.int64]
    """[N]: the kept document it duplicates, -1 where it is not removed here."""
    jaccard: npt.NDArray[np.float64]
    """[N]: exact similarity to that partner; NaN where there is none, or where the two were not compared."""
    component: npt.NDArray[np.uint32]
    """[N]: smallest number of its connected component."""


def judge(blocks: Sequence[Scored], n: int, kept_before: npt.NDArray[np.bool_], one_each: bool = False) -> Verdict:
    """Decide over N documents from all pairs within the threshold of each other, in any order.

    The partner is the nearest of several possible ones, of equals the first; of a component the first survivor.

    Args:
        kept_before: bool [M], whether each of the first M documents, of earlier nights, was kept then. They are
            not judged again, and one that was removed then is nobody's partner.
        one_each: Keep one document of each component: every document that chains of pairs join to an
            earlier-numbered survivor is removed, like it or not.
    """
    partner, jaccard = np.full(n, -1, np.int64), np.full(n, np.nan)
    kept = np.ones(n, np.bool_)
    kept[: len(kept_before)] = kept_before
    component = components((pairs for pairs, _ in blocks), n)
    if one_each:
        _one_each(component, len(kept_before), kept, partner)
        for some, values in blocks:
            to_keeper = partner[some & HALF] == some >> np.uint64(32)
            jaccard[some[to_keeper] & HALF] = values[to_keeper]
    else:
        for some, values in _by_second(blocks, n):
            _nearest_keepers(some, values, len(kept_before), kept, partner, jaccard)
    return Verdict(partner, jaccard, component)


def _by_second(blocks: Sequence[Scored], n: int) -> Iterator[Scored]:
    """Yield the pairs by second document, then falling similarity, then first document; about `AT_ONCE` at a time.

    Sorting takes some 80 bytes a pair: all pairs of a large family at once would take most of the memory.
    """
    counts = np.zeros(n, np.uint32)
    for some, _ in blocks:
        counts += np.bincount((some & HALF).astype(np.int64), minlength=n).astype(np.uint32)
    turn = (np.cumsum(counts, dtype=np.int64) - counts) // AT_ONCE
    ends = np.append(np.flatnonzero(np.diff(turn)) + 1, n).astype(np.uint64)
    for start, end in pairwise(np.append(np.uint64(0), ends)):
        chosen = [(pairs & HALF >= start) & (pairs & HALF < end) for pairs, _ in blocks]
        some = np.concatenate([pairs[part] for (pairs, _), part in zip(blocks, chosen, strict=True)])
        values = np.concatenate([values[part] for (_, values), part in zip(blocks, chosen, strict=True)])
        order = np.lexsort((some >> np.uint64(32), -values, some & HALF))
        yield some[order], values[order]


def components(blocks: Iterable[Packed], n: int) -> npt.NDArray[np.uint32]:
    """Return uint32 [N], the smallest number of each document's connected component, from packed pairs."""
    parent = np.arange(n, dtype=np.uint32)
    for packed in blocks:
        _connect(packed, parent)
    _point_to_roots(parent)
    return parent


@compiled
def _nearest_keepers(pairs: Any, similarity: Any, judged_from: int, kept: Any, partner: Any, jaccard: Any) -> None:
    # Pairs are sorted by second document, so every possible partner of it is decided by now.
    for p in range(len(pairs)):
        first, second = np.int64(pairs[p] >> np.uint64(32)), np.int64(pairs[p] & np.uint64(0xFFFFFFFF))
        if second >= judged_from and kept[second] and kept[first]:
            kept[second] = False
            partner[second] = first
            jaccard[second] = similarity[p]


@compiled(allocates=True)
def _one_each(component: Any, judged_from: int, kept: Any, partner: Any) -> None:
    """Keep the first survivor of each component."""
    keeper = np.full(len(component), -1, np.int64)
    for d in range(len(component)):
        root = component[d]
        if d >= judged_from and keeper[root] >= 0:
            partner[d] = keeper[root]
        elif kept[d] and keeper[root] < 0:
            keeper[root] = d


@compiled
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


@compiled
def _point_to_roots(parent: Any) -> None:
    """Point every document straight to its root; its parent, never larger than itself, does so already."""
    for d in range(len(parent)):
        parent[d] = parent[parent[d]]
