"""The one decision over a batch of documents: which duplicate which, tonight's and earlier ones alike.

Exact copies (same normalised text) are collapsed first and cost nothing more. What remains meets by band keys,
every meeting is compared exactly, and `clusters` judges. The answer depends on the documents only, not on their
order, on files or on workers.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.config import DedupConfig
from slimpajama.dedup.candidates import HistoryJoin, candidate_pairs, most_shared
from slimpajama.dedup.clusters import judge
from slimpajama.dedup.verify import LoadTexts, Places, similarities

__all__ = ["Documents", "Earlier", "Outcome", "decide"]


class Documents(NamedTuple):
    """Tonight's N documents."""

    ids: pa.Array
    priority: npt.NDArray[np.int64]
    """[N]: of two near-duplicates the larger survives."""
    n_chars: npt.NDArray[np.int64]
    content: npt.NDArray[np.uint8]
    """[N, 16]: hash of the normalised text."""
    keys: npt.NDArray[np.uint64]
    """[N, bands]."""
    places: Places
    """[N, 2]: shelf and row of each text."""


class Earlier(NamedTuple):
    """M documents of an earlier night, one file's worth."""

    shelf: int
    ids: pa.Array
    content: npt.NDArray[np.uint8]
    cluster: pa.Array
    kept: npt.NDArray[np.bool_]
    keys: npt.NDArray[np.uint64]


class Outcome(NamedTuple):
    """What becomes of each of tonight's documents, in the order they were given."""

    kept: npt.NDArray[np.bool_]
    exact: npt.NDArray[np.bool_]
    """Whether its normalised text equals its partner's."""
    duplicate_of: pa.Array
    """Id of the kept document it is removed for; null where it is kept."""
    jaccard: npt.NDArray[np.float64]
    """Exact similarity to that document; NaN where it is kept."""
    cluster: pa.Array
    """An earlier night's cluster if one is reached through similar pairs, else the smallest id so reached."""
    compared: int
    """Pairs that were compared exactly."""


class _Hits(NamedTuple):
    """The earlier documents that some of tonight's meets, numbered 0 to M - 1 in their own order."""

    ids: pa.Array
    cluster: pa.Array
    kept: npt.NDArray[np.bool_]
    places: Places
    pairs: npt.NDArray[np.int64]
    """int64 [P, 2]: earlier document, tonight's document."""
    same: npt.NDArray[np.bool_]
    """[P]: whether their normalised texts are equal."""


def decide(
    documents: Documents, history: Iterable[Earlier], load: LoadTexts, cfg: DedupConfig, workers: int = 1
) -> Outcome:
    """Find duplicates among tonight's documents and against earlier ones, and say who survives.

    Args:
        documents: Tonight's.
        history: Earlier nights' documents, oldest first; read once, a batch at a time.
        load: Returns texts of a shelf, tonight's or an earlier one's.
        cfg: Threshold, shingle width, bands.
        workers: Threads; the answer does not depend on it.
    """
    ranked = _survival_order(documents)
    first, copy_of = _collapse(documents.content[ranked])
    nodes = ranked[first]  # documents that are compared, in order of survival; a copy stands behind its node
    keys = documents.keys[nodes]
    hits = _meet_history(keys, documents.content[nodes], history)
    m = len(hits.kept)
    met = np.concatenate([hits.pairs + np.array([0, m]), candidate_pairs(keys) + m])
    same = np.concatenate([hits.same, np.zeros(len(met) - len(hits.pairs), np.bool_)])
    places = np.concatenate([hits.places, documents.places[nodes]])
    sizes = np.concatenate([np.full(m, int(documents.n_chars.mean()) if m else 0), documents.n_chars[nodes]])
    similarity = np.ones(len(met))
    similarity[~same] = similarities(met[~same], places, sizes, load, cfg.ngram_chars, workers)
    alike = similarity >= cfg.threshold
    verdict = judge(met[alike], similarity[alike], m + len(nodes), hits.kept)

    node = np.empty(len(ranked), np.int64)
    node[ranked] = copy_of
    is_copy = np.ones(len(ranked), np.bool_)
    is_copy[nodes] = False
    partner, jaccard = verdict.partner[m + node], verdict.jaccard[m + node]
    copied = is_copy & (partner < 0)  # its node is kept, so the node itself is the partner
    partner, jaccard = np.where(copied, m + node, partner), np.where(copied, 1.0, jaccard)
    equal = same & (met[:, 0] == verdict.partner[met[:, 1]])
    exact_node = np.zeros(len(nodes), np.bool_)
    exact_node[met[equal, 1] - m] = True
    names = pa.concat_arrays([hits.ids, documents.ids.take(pa.array(nodes))])
    return Outcome(
        kept=partner < 0,
        exact=copied | exact_node[node],
        duplicate_of=names.take(pa.array(partner, mask=partner < 0)),
        jaccard=jaccard,
        cluster=_cluster_names(hits, verdict.component, m + node, documents.ids),
        compared=int((~same).sum()),
    )


def _survival_order(documents: Documents) -> npt.NDArray[np.int64]:
    """Return documents by source priority, then length, then id."""
    by_id = pc.array_sort_indices(documents.ids).to_numpy().astype(np.int64)
    rank = np.empty(len(by_id), np.int64)
    rank[by_id] = np.arange(len(by_id))
    return np.lexsort((rank, -documents.n_chars, -documents.priority))


def _collapse(content: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the first document of each content, ascending, and for each document the number of its content's."""
    _, first, inverse = np.unique(_as_names(content), return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.empty(len(order), np.int64)
    number[order] = np.arange(len(order))
    return first[order].astype(np.int64), number[inverse]


def _as_names(content: npt.NDArray[np.uint8]) -> npt.NDArray[np.void]:
    return np.ascontiguousarray(content).view("V16").ravel()


def _with_content(keys: npt.NDArray[np.uint64], content: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint64]:
    """Return the keys with half of the content hash as one more: exact copies meet even where a band is crowded."""
    return np.column_stack([np.ascontiguousarray(content[:, :8]).view(np.uint64), keys])


def _meet_history(keys: npt.NDArray[np.uint64], content: npt.NDArray[np.uint8], history: Iterable[Earlier]) -> _Hits:
    join: HistoryJoin | None = None
    ids, clusters, kept, places, pairs, shared, same = [], [], [], [], [], [], []
    total = 0
    for earlier in history:
        if len(keys) == 0 or len(earlier.kept) == 0:
            continue
        join = join or HistoryJoin(_with_content(keys, content))  # as large as the keys: made only if needed
        found, counts = join.match(_with_content(earlier.keys, earlier.content), earlier.kept)
        rows, local = np.unique(found[:, 0], return_inverse=True)
        taken = pa.array(rows)
        ids.append(earlier.ids.take(taken))
        clusters.append(earlier.cluster.take(taken))
        kept.append(earlier.kept[rows])
        places.append(np.column_stack([np.full(len(rows), earlier.shelf), rows]))
        pairs.append(np.column_stack([local + total, found[:, 1]]))
        shared.append(counts)
        same.append((earlier.content[found[:, 0]] == content[found[:, 1]]).all(axis=1))
        total += len(rows)
    if not ids:
        none = pa.array([], pa.string())
        nothing = np.zeros((0, 2), np.int64)
        return _Hits(none, none, np.zeros(0, np.bool_), nothing, nothing, np.zeros(0, np.bool_))
    every, equal = np.concatenate(pairs), np.concatenate(same)
    best = most_shared(every, np.concatenate(shared))
    return _Hits(
        pa.concat_arrays(ids), pa.concat_arrays(clusters), np.concatenate(kept), np.concatenate(places),
        every[best], equal[best],
    )  # fmt: skip


def _cluster_names(
    hits: _Hits, component: npt.NDArray[np.int64], node: npt.NDArray[np.int64], ids: pa.Array
) -> pa.Array:
    """Return each of tonight's documents' cluster.

    A name that an earlier night gave stays: its documents were put on a side of the split by that name.
    """
    names = pa.concat_arrays([hits.cluster, ids])
    order = pc.array_sort_indices(names).to_numpy().astype(np.int64)
    rank = np.empty(len(order), np.int64)
    rank[order] = np.arange(len(order))
    m = len(hits.cluster)
    rank[m:] += len(names)  # behind every earlier name
    best = np.full(len(component), 2 * len(names), np.int64)
    np.minimum.at(best, component[:m], rank[:m])
    np.minimum.at(best, component[node], rank[m:])
    return names.take(pa.array(order[best[component[node]] % max(1, len(names))]))
