"""The one decision over a batch of documents: which duplicate which, tonight's and earlier ones alike.

Exact copies (same normalised text) are collapsed first and cost nothing more. What remains meets by band keys, every
pair that meets is compared exactly, and `clusters` judges. The answer depends on the documents only, not on their
order, on files, on workers or on memory.

From then on documents have one sequence of numbers: the M earlier ones that share keys with tonight's, then tonight's
distinct texts in order of survival.

Memory: about 125 bytes a document stand at the peak, whatever the length of its text. 40 are given (id and content hash
16 each, length and priority 4 each); the others are order and number by survival, the union-find's parent, and the
verdict: partner, similarity, family. Each pair that is alike takes 16 more. Band keys come from disk, as many bands at
a time as a share of `memory_mb` holds; pairs and texts beyond their shares wait on disk, in the system's folder for
temporary files (`TMPDIR`).
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from slimpajama.core.config import DedupConfig
from slimpajama.core.memory import release_memory
from slimpajama.core.stopping import Pool
from slimpajama.core.temporary import temporary_folder
from slimpajama.corpus.dedup.candidates import LEFT_OUT, NEW, group_pairs
from slimpajama.corpus.dedup.clusters import Verdict, judge
from slimpajama.corpus.dedup.columns import key_columns, unpack_ids
from slimpajama.corpus.dedup.documents import Distinct, DocumentFile, Documents, EarlierFile, Numbers, collapse
from slimpajama.corpus.dedup.history_join import ROW_BITS, Matches, join_history
from slimpajama.corpus.dedup.kernel import sketch
from slimpajama.corpus.dedup.similarity import Texts, similarities
from slimpajama.corpus.dedup.spill import HALF, Packed, PairSet, Scored, distinct, pack

# Searches of each band's groups; what one finds decides who takes part in the next.
ROUNDS = 4
# A pair that waits in memory is 8 bytes, four times while it is sorted in; a share of the memory.
PAIR_BYTES = 320


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
    """The kept document it duplicates: an earlier one's number, else M + one of tonight's; -1 where it is kept."""
    family: npt.NDArray[np.int64]
    """The document that its cluster is named after, numbered alike."""
    matches: Matches
    ids: pa.Array

    def duplicate_of(self, part: slice = slice(None)) -> pa.Array:
        """Return ids of kept documents, null where a document is kept."""
        return _names(self.partner[part], self.matches.ids, self.ids)

    def cluster(self, part: slice = slice(None)) -> pa.Array:
        """Return an earlier night's cluster if similar pairs reach one, else the smallest id that they reach."""
        return _names(self.family[part], self.matches.cluster, self.ids)

    def table(self, part: slice) -> pa.Table:
        """Return `kept`, `exact`, `duplicate_of`, `jaccard` and `cluster` of some documents."""
        columns = {
            "kept": self.kept[part],
            "exact": self.exact[part],
            "duplicate_of": self.duplicate_of(part),
            "jaccard": pa.array(self.jaccard[part], from_pandas=True),
            "cluster": self.cluster(part),
        }
        return pa.table(columns)

    def for_earlier(self, part: slice) -> int:
        """Return how many documents are removed for one of an earlier night."""
        return int(((self.partner[part] >= 0) & (self.partner[part] < len(self.matches.kept))).sum())


def _names(numbers: npt.NDArray[np.int64], earlier: pa.Array, tonight: pa.Array) -> pa.Array:
    """Return ids of documents, null where the number is negative."""
    m = len(earlier)
    names = tonight.take(pa.array(numbers - m, mask=numbers < m))
    if m:
        names = pc.coalesce(earlier.take(pa.array(numbers, mask=(numbers < 0) | (numbers >= m))), names)
    return unpack_ids(names) if names.type == pa.binary(16) else names


def decide_texts(ids: pa.Array, texts: pa.LargeStringArray, cfg: DedupConfig, workers: int = 1) -> Outcome:
    """Find exact and near-duplicates among texts in memory, which holds `cfg.bands` keys of 8 bytes a text besides."""
    found = sketch(texts, cfg, workers)
    keys = key_columns(found.content, found.keys)
    file = DocumentFile(
        ids, found.n_chars, found.content, lambda groups: keys[list(groups)], lambda rows: texts.take(pa.array(rows))
    )
    return decide(Documents.of([file], ids.type), (), cfg, workers)


def decide(documents: Documents, history: Sequence[EarlierFile], cfg: DedupConfig, workers: int = 1) -> Outcome:
    """Find duplicates among tonight's documents and against earlier ones, oldest first, and say who survives.

    `workers` are threads; the answer does not depend on them.
    """
    tonight = collapse(documents)
    matches = join_history(tonight, history, cfg)
    m = len(matches.kept)
    texts = _texts(tonight, matches, history)
    with temporary_folder() as folder:
        verdict, compared = _compare(tonight, matches, texts, cfg, workers, folder)
    _, nodes, node = tonight
    node += np.uint32(m)
    is_copy = np.ones(len(node), np.bool_)
    is_copy[nodes] = False
    partner, jaccard = verdict.partner[node], verdict.jaccard[node]
    # The document that stands for a copy is kept, so it is the partner.
    copied = is_copy & (partner < 0)
    jaccard[copied] = 1.0
    partner[copied] = node[copied]
    exact = copied | _equals_earlier(verdict, matches)[node]
    later = partner >= m
    partner[later] = nodes[partner[later] - m].astype(np.int64) + m
    family = _families(matches, verdict.component, node, documents.ids)
    return Outcome(partner < 0, exact, jaccard, compared, partner, family, matches, documents.ids)


def _equals_earlier(verdict: Verdict, matches: Matches) -> npt.NDArray[np.bool_]:
    """Return which documents are removed for an earlier one of the same content."""
    equal = np.zeros(len(verdict.partner), np.bool_)
    removed = np.flatnonzero((verdict.partner >= 0) & (verdict.partner < len(matches.kept)))
    pairs = pack(np.column_stack([verdict.partner[removed], removed]))
    equal[removed] = np.isin(pairs, matches.pairs[matches.equal])
    return equal


def _texts(tonight: Distinct, matches: Matches, history: Sequence[EarlierFile]) -> Texts:
    """Say where the texts of all numbers are: the files of history come first, then tonight's."""
    documents, nodes, _ = tonight
    m = len(matches.kept)

    def places(wanted: Numbers) -> npt.NDArray[np.int64]:
        out, earlier = np.empty(len(wanted), np.int64), wanted < m
        out[earlier] = matches.places[wanted[earlier]]
        rows = nodes[wanted[~earlier] - np.uint32(m)].astype(np.int64)
        file_index = np.searchsorted(documents.starts, rows, side="right") - 1
        out[~earlier] = len(history) + file_index << ROW_BITS | rows - documents.starts[file_index]
        return out

    mean = int(documents.n_chars.mean()) if m else 0
    n_chars = np.concatenate([np.full(m, mean, np.uint32), documents.n_chars[nodes]])
    return Texts(places, [*(file.texts for file in history), *documents.texts], n_chars)


def _compare(
    tonight: Distinct, matches: Matches, texts: Texts, cfg: DedupConfig, workers: int, folder: Path
) -> tuple[Verdict, int]:
    """Find, verify and judge pairs; return how many were compared, too."""
    n, m = len(texts.n_chars), len(matches.kept)
    memory = cfg.memory_mb * 1_000_000
    candidates = PairSet(folder, memory // PAIR_BYTES)
    candidates.add(matches.pairs[~matches.equal])
    alike: list[Scored] = [(matches.pairs[matches.equal], np.ones(int(matches.equal.sum())))]
    compared = 0

    def verify(least: float) -> Iterator[Scored]:
        nonlocal compared
        for found, values in similarities(candidates, texts, cfg, least, workers, memory, folder):
            compared += len(found)
            yield found, values
        candidates.clear()
        release_memory()

    bands = list(range(1, cfg.bands + 1))
    remaining: npt.NDArray[np.uint8] | None = None
    separate: Numbers | None = None
    for round_number in range(ROUNDS):
        oversized = set()
        for band, (found, oversized_groups) in _band_pairs(tonight, bands, remaining, separate, cfg, workers):
            candidates.add(found + np.uint64(m << 32 | m))
            oversized |= {band} if oversized_groups else set()
        # Other bands have nothing for another round.
        bands = sorted(oversized)
        if not cfg.verify:
            found = distinct(np.concatenate(list(candidates.blocks())))
            alike.append((found, np.full(len(found), np.nan)))
            break
        for found, values in verify(cfg.threshold):
            enough = values >= cfg.threshold
            alike.append((found[enough], values[enough]))
        if not bands:
            break
        verdict = judge(alike, n, matches.kept)
        survives = verdict.partner[m:] < 0
        is_new = survives if remaining is None else survives & (remaining == LEFT_OUT)
        remaining = survives.astype(np.uint8) + is_new
        # One search for pairs that join components is enough: who is near whom does not change.
        separate = verdict.component[m:] if round_number == 0 else None
    verdict = judge(alike, n, matches.kept, cfg.clusters == "components")
    missing = np.flatnonzero((verdict.partner >= 0) & np.isnan(verdict.jaccard))
    # The keeper of a component and a document that only a chain of pairs joins to it.
    if cfg.verify and len(missing):
        candidates.add(pack(np.column_stack([verdict.partner[missing], missing])))
        for found, values in verify(0.0):
            verdict.jaccard[(found & HALF).astype(np.int64)] = values
    return verdict, compared


def _band_pairs(
    tonight: Distinct,
    bands: list[int],
    remaining: npt.NDArray[np.uint8] | None,
    separate: Numbers | None,
    cfg: DedupConfig,
    workers: int,
) -> Iterator[tuple[int, tuple[Packed, bool]]]:
    """Yield each band's pairs, reading as many bands at a time as memory holds: 16 bytes a document and band."""
    n = len(tonight.nodes)
    if n == 0 or (remaining is not None and separate is None and not (remaining == NEW).any()):
        return
    at_once = int(np.clip(cfg.memory_mb * 1_000_000 // 16 // (16 * n), 1, cfg.bands))
    for first in range(0, len(bands), at_once):
        some = bands[first : first + at_once]
        columns = np.empty((len(some), n), np.uint64)
        for numbers, part in tonight.keys(some):
            columns[:, numbers] = part
        with Pool(min(workers, len(some))) as pool:
            found = pool.map(lambda column: group_pairs(column, remaining, separate), columns)
            yield from zip(some, found, strict=True)


def _families(matches: Matches, component: Numbers, node: Numbers, ids: pa.Array) -> npt.NDArray[np.int64]:
    """Return what each of tonight's documents' clusters is named after.

    A name that an earlier night gave stays: its documents were put on a side of the split by that name.
    """
    m, best = len(matches.kept), np.empty(len(component), np.int64)
    of_ids = pc.array_sort_indices(ids, order="descending").to_numpy().astype(np.int64)
    # The last one written stays: the smallest.
    best[component[node[of_ids]]] = of_ids + m
    earlier = pc.array_sort_indices(matches.cluster, order="descending").to_numpy().astype(np.int64)
    best[component[earlier]] = earlier
    return best[component[node]]
