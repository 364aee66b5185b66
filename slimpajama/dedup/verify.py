"""Exact similarity of candidate pairs whose texts lie in many files.

Texts come shelf by shelf (a file's worth); a shelf gives the texts that some pair needs and the latest ones stay
in memory up to a budget. Pairs go through in the order of their shelves, in chunks of bounded size.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.dedup.jaccard import jaccard
from slimpajama.progress import track

__all__ = ["LoadTexts", "Places", "similarities"]

CHUNK_BYTES = 4_000_000  # text compared in one call; with 12 times as much in hashes it stays near the cache
CACHE_BYTES = 512_000_000

Places = npt.NDArray[np.int64]
"""int64 [N, 2]: shelf and row of each document."""
LoadTexts = Callable[[int, npt.NDArray[np.int64]], pa.LargeStringArray]
"""Shelf and rows, ascending -> their texts; null where a text is gone."""


class _Library:
    """Texts that pairs need, the shelves used last."""

    def __init__(self, load: LoadTexts, places: Places, needed: npt.NDArray[np.int64]) -> None:
        self.load, self.places = load, places
        at = places[needed]
        self.rows = {int(shelf): np.unique(at[at[:, 0] == shelf, 1]) for shelf in np.unique(at[:, 0])}
        self.shelves: OrderedDict[int, pa.LargeStringArray] = OrderedDict()
        self.bytes = 0

    def shelf(self, number: int) -> pa.LargeStringArray:
        if number in self.shelves:
            self.shelves.move_to_end(number)
            return self.shelves[number]
        texts = self.load(number, self.rows[number])
        self.shelves[number] = texts
        self.bytes += texts.nbytes
        while self.bytes > CACHE_BYTES and len(self.shelves) > 1:
            self.bytes -= self.shelves.popitem(last=False)[1].nbytes
        return texts

    def texts(self, nodes: npt.NDArray[np.int64]) -> pa.LargeStringArray:
        """Return the texts of documents that are sorted by shelf."""
        at = self.places[nodes]
        found = []
        for shelf in np.unique(at[:, 0]):
            rows = np.searchsorted(self.rows[int(shelf)], at[at[:, 0] == shelf, 1])
            found.append(self.shelf(int(shelf)).take(pa.array(rows)))
        return pa.concat_arrays(found)


def similarities(
    pairs: npt.NDArray[np.int64],
    places: Places,
    sizes: npt.NDArray[np.int64],
    load: LoadTexts,
    ngram: int,
    workers: int,
) -> npt.NDArray[np.float64]:
    """Return the exact Jaccard similarity of each pair of documents; 0 where a text is gone.

    Args:
        pairs: int64 [P, 2].
        places: Where each document's text lies.
        sizes: int64 [N], about how large each text is; used for bounding memory only.
        load: Reads texts; called from this thread only.
        ngram: Shingle width in characters.
        workers: Threads that compare.
    """
    out = np.zeros(len(pairs))
    if len(pairs) == 0:
        return out
    # Documents renumbered by place: pairs then run through the shelves in order, and so do chunks' texts.
    by_place = np.lexsort((places[:, 1], places[:, 0]))
    number = np.empty_like(by_place)
    number[by_place] = np.arange(len(by_place))
    renumbered = number[pairs]
    order = np.lexsort((renumbered[:, 1], renumbered[:, 0]))
    library = _Library(load, places, np.unique(pairs))

    def compare(part: npt.NDArray[np.int64], local: npt.NDArray[np.int64], texts: pa.LargeStringArray) -> int:
        gone = texts.is_null().to_numpy(zero_copy_only=False)
        found = jaccard(pc.fill_null(texts, "") if texts.null_count else texts, local, ngram)
        out[part] = np.where(gone[local].any(axis=1), 0.0, found)
        return len(part)

    with track("compare", total=len(pairs), unit="pairs") as bar, ThreadPoolExecutor(max(1, workers)) as pool:
        running: list[Future[int]] = []
        for part in _chunks(renumbered[order], sizes[by_place]):
            nodes, local = np.unique(renumbered[order[part]], return_inverse=True)
            texts = library.texts(by_place[nodes])
            running.append(pool.submit(compare, order[part], local.reshape(-1, 2), texts))
            if len(running) > workers:  # texts in flight are bounded too
                bar.advance(running.pop(0).result())
        for future in running:
            bar.advance(future.result())
    return out


def _chunks(pairs: npt.NDArray[np.int64], sizes: npt.NDArray[np.int64]) -> Iterator[slice]:
    """Cut sorted pairs into runs whose texts are about `CHUNK_BYTES`, counting repeats; a pair is never split."""
    repeated = np.diff(pairs[:, 0], prepend=-1) == 0
    ends = np.cumsum(sizes[pairs[:, 1]] + np.where(repeated, 0, sizes[pairs[:, 0]]))
    start, before = 0, 0
    while start < len(pairs):
        stop = max(start + 1, int(np.searchsorted(ends, before + CHUNK_BYTES, side="right")))
        yield slice(start, stop)
        start, before = stop, int(ends[stop - 1])
