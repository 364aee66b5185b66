"""Tonight's documents against earlier ones: the keys of both are compared, and only those that share one are named."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from slimpajama.core.config import DedupConfig
from slimpajama.corpus.dedup.columns import pack_ids
from slimpajama.corpus.dedup.documents import Distinct, EarlierFile, Keys, Numbers
from slimpajama.corpus.dedup.spill import HALF, Packed, pack
from slimpajama.text.kernels import compiled

# Bits of a place that number a row in its file.
ROW_BITS = 32
# Kept earlier documents that one key is compared with.
SHARED = 48
# Of all earlier documents that share a key, this many are compared: those that share the most.
PARTNERS = 16

MATCH = np.dtype([("place", np.int64), ("document", np.uint32), ("shared", np.int16), ("equal", np.bool_)])
"""A pair: place of the earlier document, tonight's document, how many keys both have, whether their texts are equal."""
EARLIER = pa.schema([("id", pa.string()), ("cluster", pa.string()), ("kept", pa.bool_())])


class Matches(NamedTuple):
    """P pairs of an earlier document and one of tonight's, and the M earlier documents that are in them."""

    pairs: Packed
    """[P]: number of the earlier document, and M + number of tonight's."""
    equal: npt.NDArray[np.bool_]
    """[P]: whether the normalised texts are equal."""
    ids: pa.Array
    cluster: pa.Array
    kept: npt.NDArray[np.bool_]
    places: npt.NDArray[np.int64]
    """[M], ascending: file index * 2^32 + row."""


def join_history(tonight: Distinct, history: Sequence[EarlierFile], cfg: DedupConfig) -> Matches:
    """Find, for each of tonight's documents, the earlier ones that share most of its keys.

    History is read once, or several times where tonight's keys do not fit in memory.
    """
    documents = tonight.documents
    places, tables, chosen = [np.zeros(0, np.int64)], [EARLIER.empty_table()], [np.empty(0, MATCH)]
    for numbers, columns in _portions(tonight, cfg) if history else ():
        join, found = HistoryJoin(columns), []
        for file_index, file in enumerate(history):
            batch = file.read()
            matches = join.match(batch.keys, batch.documents["kept"].to_numpy())
            rows = np.unique(matches["place"])
            places.append(file_index << ROW_BITS | rows)
            tables.append(batch.documents.take(pa.array(rows)))
            matches["document"] = numbers[matches["document"]]
            ours = documents.content[tonight.nodes[matches["document"]]]
            matches["equal"] = (batch.content[matches["place"]] == ours).all(axis=1)
            matches["place"] |= file_index << ROW_BITS
            found.append(matches)
        chosen.append(most_shared(np.concatenate(found)))
    found_places, first = np.unique(np.concatenate(places), return_index=True)
    matches = np.concatenate(chosen)
    used, number = np.unique(matches["place"], return_inverse=True)
    earlier = pa.concat_tables(tables).take(pa.array(first[np.searchsorted(found_places, used)]))
    ids, cluster = (earlier[name].combine_chunks() for name in ("id", "cluster"))
    if documents.ids.type == pa.binary(16):
        ids, cluster = pack_ids(ids), pack_ids(cluster)
    pairs = pack(np.column_stack([number, matches["document"].astype(np.int64) + len(used)]))
    return Matches(pairs, matches["equal"], ids, cluster, earlier["kept"].to_numpy(), used)


def _portions(tonight: Distinct, cfg: DedupConfig) -> Iterator[tuple[Numbers, Keys]]:
    """Yield tonight's numbers, ascending, and their keys, as many at a time as memory holds with their pairs."""
    most = max(1, cfg.memory_mb * 1_000_000 // 2 // (64 * (cfg.bands + 1)))
    held: list[tuple[Numbers, Keys]] = []
    todo = len(tonight.nodes)
    for part in tonight.keys(range(cfg.bands + 1)):
        held.append(part)
        todo -= len(part[0])
        count = sum(len(numbers) for numbers, _ in held)
        if count >= most or (count and todo == 0):
            numbers = np.concatenate([numbers for numbers, _ in held])
            columns = np.concatenate([columns for _, columns in held], axis=1)
            held, order = [], np.argsort(numbers)
            yield numbers[order], columns[:, order]


class HistoryJoin:
    """Tonight's keys, against which the keys of earlier documents are streamed.

    Tonight's keys stay in memory; each key of an earlier night is read once, and only texts of documents that matched
    are read. A key takes the first `SHARED` kept documents and the first removed one that it meets, so
    the order of calls is part of the answer: earlier nights first, files in their order. Tonight's documents come in
    order of survival.
    """

    def __init__(self, keys: Keys) -> None:
        self._order = np.empty(keys.shape, np.uint32)
        self._sorted = np.empty(keys.shape, np.uint64)
        for column, order, ordered in zip(keys, self._order, self._sorted, strict=True):
            order[:] = np.argsort(column, kind="stable")
            ordered[:] = column[order]
        # At a key's first place: removed, kept.
        self._taken = np.zeros((*self._sorted.shape, 2), np.uint8)
        # Keys are hashes, evenly spread: a directory over their top bits replaces most of a binary search.
        bits = max(1, keys.shape[1].bit_length() - 3)
        self._shift = np.uint64(64 - bits)
        tops = np.arange(1 << bits, dtype=np.uint64) << self._shift
        ends = [np.append(np.searchsorted(row, tops), len(row)) for row in self._sorted]
        self._directory = np.stack(ends).astype(np.uint32)

    def match(self, keys: Keys, kept: npt.NDArray[np.bool_]) -> npt.NDArray[np.void]:
        """Return `MATCH` rows with M earlier documents, each pair once; the place is the row, `equal` is not set.

        `keys` are theirs, uint64 [columns, M]; `kept` says of each whether it is part of its night's corpus.
        """
        packed = _matches(keys, kept, self._sorted, self._order, self._directory, self._shift, self._taken, SHARED)
        packed.sort()
        first = np.flatnonzero(np.append(True, packed[1:] != packed[:-1])[: len(packed)])
        out = np.zeros(len(first), MATCH)
        out["place"], out["document"] = packed[first] >> np.uint64(32), packed[first] & HALF
        out["shared"] = np.diff(first, append=len(packed))
        return out


@compiled(allocates=True)
def _matches(keys: Any, kept: Any, columns: Any, order: Any, directory: Any, shift: Any, taken: Any, group: int) -> Any:
    out, total = np.empty(1024, np.uint64), 0
    for c in range(len(keys)):
        column = columns[c]
        for row in range(keys.shape[1]):
            key, which, limit = keys[c, row], 0, 1
            if kept[row]:
                which, limit = 1, group
            top = np.int64(key >> shift)
            i, end = np.int64(directory[c, top]), np.int64(directory[c, top + 1])
            while i < end and column[i] < key:
                i += 1
            if i == end or column[i] != key or taken[c, i, which] >= limit:
                continue
            taken[c, i, which] += 1
            while i < end and column[i] == key:
                if total == len(out):
                    grown = np.empty(2 * total, np.uint64)
                    grown[:total] = out
                    out = grown
                out[total] = np.uint64(row) << np.uint64(32) | np.uint64(order[c, i])
                total += 1
                i += 1
    return out[:total]


def most_shared(matches: npt.NDArray[np.void]) -> npt.NDArray[np.void]:
    """Return, for each of tonight's documents, the `PARTNERS` matches that share most keys, of equals the earliest."""
    order = np.lexsort((matches["place"], -matches["shared"], matches["document"]))
    documents = matches["document"][order]
    rank = np.arange(len(order)) - np.searchsorted(documents, documents, side="left")
    return matches[np.sort(order[rank < PARTNERS])]
