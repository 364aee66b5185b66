"""The one decision over a batch of documents: which duplicate which, tonight's and earlier ones alike.

Exact copies (same normalised text) are collapsed first and cost nothing more. What remains meets by band keys,
every meeting is compared exactly, and `clusters` judges. The answer depends on the documents only, not on their
order, on files, on workers or on memory.

Memory: about 125 bytes a document stand at the peak, whatever the length of its text. 40 are given (id and content hash
16 each, length and priority 4 each); the others are order and number by survival, the union-find's parent, and what
becomes of it: partner, similarity, family. Each pair that is alike takes 16 more.
Band keys come from disk, as many bands at a time as a share of `memory_mb` holds; pairs and texts beyond their
shares wait on disk, in the system's folder for temporary files (`TMPDIR`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import DedupConfig
from slimpajama.core.memory import release_memory
from slimpajama.core.temporary import temporary_folder
from slimpajama.corpus.dedup.candidates import LEFT_OUT, NEW, group_pairs
from slimpajama.corpus.dedup.clusters import Verdict, judge
from slimpajama.corpus.dedup.history_join import ROW, Documents, Hits, LoadKeys, Past, meet_history
from slimpajama.corpus.dedup.similarity import LoadTexts, Texts, similarities
from slimpajama.corpus.dedup.spill import HALF, Packed, PairSet, distinct, pack

# At the groups of each band; what a look finds decides who takes part in the next one.
LOOKS = 4
# A pair that waits in memory is 8 bytes, four times while it is sorted in; a share of the memory.
PAIR_BYTES = 320
# Set in a place: the shelf is one of tonight's.
TONIGHT = 1 << 62


class Outcome(NamedTuple):
    """What becomes of each of tonight's N documents, in the order they were given."""

    kept: npt.NDArray[np.bool_]
    exact: npt.NDArray[np.bool_]
    """Whether its normalised text equals its partner's."""
    jaccard: npt.NDArray[np.float64]
    """Exact similarity to its partner; NaN where it is kept, or where pairs are not verified."""
    compared: int
    """Pairs that were compared exactly."""
    partner: npt.NDArray[np.int64]
    """Document it is removed for: a hit's number, else the number of hits + one of tonight's; -1 where it is kept."""
    family: npt.NDArray[np.int64]
    """What its cluster is named after, numbered alike."""
    hits: Hits
    ids: pa.Array

    def duplicate_of(self, part: slice = slice(None)) -> pa.Array:
        """Return ids of kept documents, null where a document is kept."""
        return _names(self.partner[part], self.hits.ids, self.ids)

    def cluster(self, part: slice = slice(None)) -> pa.Array:
        """Return an earlier night's cluster if similar pairs reach one, else the smallest id that they reach."""
        return _names(self.family[part], self.hits.cluster, self.ids)

    def for_earlier(self, part: slice = slice(None)) -> int:
        """Return how many documents are removed for one of an earlier night."""
        return int(((self.partner[part] >= 0) & (self.partner[part] < len(self.hits.kept))).sum())


def _names(which: npt.NDArray[np.int64], earlier: pa.Array, tonight: pa.Array) -> pa.Array:
    m = len(earlier)
    ours = tonight.take(pa.array(which - m, mask=which < m))
    if not m:
        return ours
    return pc.coalesce(earlier.take(pa.array(which, mask=(which < 0) | (which >= m))), ours)


def decide(
    documents: Documents, keys: LoadKeys, past: Past | None, load: LoadTexts, cfg: DedupConfig, workers: int = 1
) -> Outcome:
    """Find duplicates among tonight's documents and against earlier ones, and say who survives.

    Args:
        documents: Tonight's.
        keys: Reads their band keys; called several times.
        past: Earlier nights' documents; read once, or several times where tonight's keys do not fit in memory.
        load: Returns texts of one of tonight's shelves.
        cfg: Threshold, shingle width, bands, memory.
        workers: Threads; the answer does not depend on it.
    """
    nodes, node = _collapse(documents)
    hits = meet_history(documents, keys, nodes, node, past, cfg)
    m, n = len(hits.kept), len(hits.kept) + len(nodes)
    mean = int(documents.n_chars.mean()) if m else 0
    texts = Texts(
        lambda wanted: _places(wanted, hits, nodes, documents.starts),
        lambda shelf, rows: _load(shelf, rows, past, load),
        np.concatenate([np.full(m, mean, np.uint32), documents.n_chars[nodes]]),
    )
    with temporary_folder() as folder:
        verdict, compared = _compare(keys, node, hits, texts, cfg, workers, folder)
    node += np.uint32(m)
    is_copy = np.ones(len(node), np.bool_)
    is_copy[nodes] = False
    partner, jaccard = verdict.partner[node], verdict.jaccard[node]
    # Its node is kept, so the node itself is the partner.
    copied = is_copy & (partner < 0)
    jaccard[copied] = 1.0
    partner[copied] = node[copied]
    met = np.flatnonzero((verdict.partner >= 0) & (verdict.partner < m))
    equal = np.zeros(n, np.bool_)
    equal[met] = np.isin(pack(np.column_stack([verdict.partner[met], met])), hits.same)
    exact = copied | equal[node]
    later = partner >= m
    partner[later] = nodes[partner[later] - m].astype(np.int64) + m
    family = _families(hits, verdict.component, node, documents.ids)
    return Outcome(partner < 0, exact, jaccard, compared, partner, family, hits, documents.ids)


def _compare(
    keys: LoadKeys,
    node: npt.NDArray[np.uint32],
    hits: Hits,
    texts: Texts,
    cfg: DedupConfig,
    workers: int,
    folder: Path,
) -> tuple[Verdict, int]:
    """Find, verify and judge pairs; return how many were compared, too."""
    n, m = len(texts.n_chars), len(hits.kept)
    memory = cfg.memory_mb * 1_000_000
    pairs = PairSet(folder, memory // PAIR_BYTES)
    alike, similarity, compared = [hits.same], [np.ones(len(hits.same))], 0

    def verify(least: float) -> Iterator[tuple[Packed, npt.NDArray[np.float64]]]:
        nonlocal compared
        for found, values in similarities(pairs, texts, cfg, least, workers, memory, folder):
            compared += len(found)
            yield found, values
        pairs.clear()
        release_memory()

    pairs.add(hits.pairs[~np.isin(hits.pairs, hits.same)])
    bands = set(range(1, cfg.bands + 1))
    left: npt.NDArray[np.uint8] | None = None
    apart: npt.NDArray[np.uint32] | None = None
    for look in range(LOOKS):
        crowded = set()
        for band, (found, large) in _groups(keys, node, n - m, sorted(bands), left, apart, cfg, workers):
            pairs.add(found + np.uint64(m << 32 | m))
            crowded |= {band} if large else set()
        # The others hold nothing for another look.
        bands = crowded
        if not cfg.verify:
            alike += [distinct(np.concatenate(list(pairs.blocks())))]
            similarity += [np.full(len(alike[-1]), np.nan)]
            break
        for found, values in verify(cfg.threshold):
            enough = values >= cfg.threshold
            alike.append(found[enough])
            similarity.append(values[enough])
        if not bands:
            break
        verdict = judge(alike, similarity, n, hits.kept)
        survives = verdict.partner[m:] < 0
        # Who is near whom stays, so once is enough.
        apart = None if look else verdict.component[m:]
        left = survives + (survives & (left == LEFT_OUT) if left is not None else survives).astype(np.uint8)
    verdict = judge(alike, similarity, n, hits.kept, cfg.clusters)
    missing = np.flatnonzero((verdict.partner >= 0) & np.isnan(verdict.jaccard))
    # A component's keeper and those that only a chain joins to it.
    if cfg.verify and len(missing):
        pairs.add(pack(np.column_stack([verdict.partner[missing], missing])))
        for found, values in verify(0.0):
            verdict.jaccard[(found & HALF).astype(np.int64)] = values
    return verdict, compared


def _groups(
    keys: LoadKeys,
    node: npt.NDArray[np.uint32],
    n: int,
    bands: list[int],
    left: npt.NDArray[np.uint8] | None,
    apart: npt.NDArray[np.uint32] | None,
    cfg: DedupConfig,
    workers: int,
) -> Iterator[tuple[int, tuple[Packed, bool]]]:
    """Yield each band's pairs, reading as many bands at a time as memory holds: 16 bytes a document and band."""
    if n == 0 or (left is not None and apart is None and not (left == NEW).any()):
        return
    at_once = int(np.clip(cfg.memory_mb * 1_000_000 // 16 // (16 * n), 1, cfg.bands))
    for first in range(0, len(bands), at_once):
        some = bands[first : first + at_once]
        columns = _columns(keys, some, node, n)
        with ThreadPoolExecutor(max(1, min(workers, len(some)))) as pool:
            yield from zip(some, pool.map(lambda column: group_pairs(column, left, apart), columns), strict=True)


def _columns(keys: LoadKeys, groups: Sequence[int], node: npt.NDArray[np.uint32], n: int) -> npt.NDArray[np.uint64]:
    """Return uint64 [groups, n], keys by the documents' numbers."""
    columns, start = np.empty((len(groups), n), np.uint64), 0
    for part in keys(groups):
        # Copies write the same key twice.
        columns[:, node[start : start + part.shape[1]]] = part
        start += part.shape[1]
    return columns


def _load(shelf: int, rows: npt.NDArray[np.int64], past: Past | None, load: LoadTexts) -> pa.LargeStringArray:
    tonight = shelf & TONIGHT >> ROW
    if tonight or past is None:
        return load(shelf - tonight, rows)
    return past.texts(shelf, rows)


def _places(
    wanted: npt.NDArray[np.uint32], hits: Hits, nodes: npt.NDArray[np.uint32], starts: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return where documents' texts lie."""
    m = len(hits.kept)
    out = np.empty(len(wanted), np.int64)
    earlier = wanted < m
    out[earlier] = hits.places[wanted[earlier]]
    rows = nodes[wanted[~earlier] - np.uint32(m)].astype(np.int64)
    shelf = np.searchsorted(starts, rows, side="right") - 1
    out[~earlier] = TONIGHT | shelf << ROW | rows - starts[shelf]
    return out


def _collapse(documents: Documents) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]:
    """Number the contents by who survives: source priority, then length, then id.

    Returns:
        The document that stands for each number, and each document's number.
    """
    table = pa.table([pa.array(documents.priority), pa.array(documents.n_chars), documents.ids], ["p", "n", "id"])
    keys = [("p", "descending"), ("n", "descending"), ("id", "ascending")]
    ranked = pc.sort_indices(table, keys).to_numpy().astype(np.uint32)
    halves = documents.content.view(np.uint64)
    # Stable: copies in order of survival.
    order = np.lexsort((halves[ranked, 1], halves[ranked, 0])).astype(np.uint32)
    ordered = halves[ranked[order]]
    new = np.append(True, (ordered[1:] != ordered[:-1]).any(axis=1))[: len(order)]
    del ordered
    is_first = np.zeros(len(order), np.bool_)
    is_first[order[new]] = True
    nodes = ranked[is_first]
    number = (np.cumsum(is_first, dtype=np.uint32) - np.uint32(1))[order[new]]
    node = np.empty(len(order), np.uint32)
    node[ranked[order]] = np.repeat(number, np.diff(np.append(np.flatnonzero(new), len(order))))
    return nodes, node


def _families(
    hits: Hits, component: npt.NDArray[np.uint32], node: npt.NDArray[np.uint32], ids: pa.Array
) -> npt.NDArray[np.int64]:
    """Return what each of tonight's documents' clusters is named after.

    A name that an earlier night gave stays: its documents were put on a side of the split by that name.
    """
    m, best = len(hits.kept), np.empty(len(component), np.int64)
    of_ids = pc.array_sort_indices(ids, order="descending").to_numpy().astype(np.int64)
    # The last one written stays: the smallest.
    best[component[node[of_ids]]] = of_ids + m
    earlier = pc.array_sort_indices(hits.cluster, order="descending").to_numpy().astype(np.int64)
    best[component[earlier]] = earlier
    return best[component[node]]
