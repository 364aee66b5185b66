"""Tonight's documents against earlier ones: both are told by their keys, and only those that meet are named."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slimpajama.core.config import DedupConfig
from slimpajama.corpus.dedup.candidates import HistoryJoin, most_shared
from slimpajama.corpus.dedup.columns import pack_ids
from slimpajama.corpus.dedup.spill import Packed, pack

LoadKeys = Callable[[Sequence[int]], Iterable[npt.NDArray[np.uint64]]]
"""Row groups of key files -> uint64 [groups, rows] of tonight's documents, a file's worth after another."""
# Bits of a place that number a row on its shelf.
ROW = 32


class Documents(NamedTuple):
    """Tonight's N documents."""

    ids: pa.Array
    """Strings, or `pack_ids` of them."""
    priority: npt.NDArray[np.int32]
    """[N]: of two near-duplicates the larger survives."""
    n_chars: npt.NDArray[np.uint32]
    content: npt.NDArray[np.uint8]
    """[N, 16]: hash of the normalised text."""
    starts: npt.NDArray[np.int64]
    """[S]: first document of each shelf; the texts of a shelf lie in one file."""


class Earlier(NamedTuple):
    """M documents of an earlier night, one file's worth."""

    ids: pa.Array
    content: npt.NDArray[np.uint8]
    cluster: pa.Array
    kept: npt.NDArray[np.bool_]
    keys: npt.NDArray[np.uint64]
    """[1 + bands, M], as in a key file."""


class Past(Protocol):
    """Earlier documents, oldest first, a shelf (a file's worth) at a time."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[Earlier]: ...
    def texts(self, shelf: int, rows: npt.NDArray[np.int64]) -> pa.LargeStringArray: ...


class Hits(NamedTuple):
    """The M earlier documents that some of tonight's meets, in their own order."""

    ids: pa.Array
    cluster: pa.Array
    kept: npt.NDArray[np.bool_]
    places: npt.NDArray[np.int64]
    """[M]: shelf * 2^32 + row."""
    pairs: Packed
    """Earlier document and tonight's, both by number."""
    same: Packed
    """Those of the pairs whose normalised texts are equal, sorted."""


def meet_history(
    documents: Documents,
    keys: LoadKeys,
    nodes: npt.NDArray[np.uint32],
    node: npt.NDArray[np.uint32],
    past: Past | None,
    cfg: DedupConfig,
) -> Hits:
    """Find, for each of tonight's documents, the earlier ones that share most of its keys."""
    ids, clusters, kept, places, pairs, same = [], [], [], [], [], []
    for numbers, columns in _portions(keys, nodes, node, cfg) if past else ():
        join, found, places_found, shared, equal = HistoryJoin(columns), [], [], [], []
        for shelf, earlier in enumerate(past or ()):
            met, counts = join.match(earlier.keys, earlier.kept)
            rows = np.unique(met[:, 0])
            ids.append(earlier.ids.take(pa.array(rows)))
            clusters.append(earlier.cluster.take(pa.array(rows)))
            kept.append(earlier.kept[rows])
            places.append(shelf << ROW | rows)
            met[:, 1] = numbers[met[:, 1]]
            equal.append((earlier.content[met[:, 0]] == documents.content[nodes[met[:, 1]]]).all(axis=1))
            places_found.append(shelf << ROW | met[:, 0])
            found.append(met[:, 1])
            shared.append(counts)
        met = np.column_stack([np.concatenate(places_found), np.concatenate(found)])
        best = most_shared(met, np.concatenate(shared))
        pairs.append(met[best])
        same.append(np.concatenate(equal)[best])
    if not pairs:
        none, nothing = documents.ids.slice(0, 0), np.zeros(0, np.uint64)
        return Hits(none, none, np.zeros(0, np.bool_), np.zeros(0, np.int64), nothing, nothing)
    met = np.concatenate(pairs)
    used = np.unique(met[:, 0])
    every, at = np.unique(np.concatenate(places), return_index=True)
    at = at[np.searchsorted(every, used)]
    packed = pack(np.column_stack([np.searchsorted(used, met[:, 0]), met[:, 1] + len(used)]))
    found, named = (pa.concat_arrays(column).take(pa.array(at)) for column in (ids, clusters))
    if documents.ids.type == pa.binary(16):
        found, named = pack_ids(found), pack_ids(named)
    return Hits(found, named, np.concatenate(kept)[at], used, packed, np.sort(packed[np.concatenate(same)]))


def _portions(
    keys: LoadKeys, nodes: npt.NDArray[np.uint32], node: npt.NDArray[np.uint32], cfg: DedupConfig
) -> Iterator[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]]:
    """Yield tonight's documents' numbers, ascending, and keys, as many at a time as memory holds with their pairs."""
    most = max(1, cfg.memory_mb * 1_000_000 // 2 // (64 * (cfg.bands + 1)))
    held: list[tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]] = []
    start = 0
    for part in keys(range(cfg.bands + 1)):
        stop = start + part.shape[1]
        numbers = node[start:stop].astype(np.int64)
        first = nodes[numbers] == np.arange(start, stop)  # not of copies
        held.append((numbers[first], part[:, first]))
        start = stop
        if sum(len(numbers) for numbers, _ in held) >= most or start == len(node):
            numbers = np.concatenate([numbers for numbers, _ in held])
            columns = np.concatenate([columns for _, columns in held], axis=1)
            order = np.argsort(numbers)
            held = []
            if len(numbers):
                yield numbers[order], columns[:, order]
