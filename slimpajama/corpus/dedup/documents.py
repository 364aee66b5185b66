"""Documents as the decision takes them: those that came in tonight, and those of earlier nights."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Self

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Keys = npt.NDArray[np.uint64]
Numbers = npt.NDArray[np.uint32]
LoadKeys = Callable[[Sequence[int]], Keys]
"""Row groups of a key file -> uint64 [groups, N]; called several times."""
LoadTexts = Callable[[npt.NDArray[np.int64]], pa.LargeStringArray]
"""Rows of a file, ascending -> their texts; null where a text is gone."""


class DocumentFile(NamedTuple):
    """N of tonight's documents, whose keys and texts lie in one file each."""

    ids: pa.Array
    """Strings, or `pack_ids` of them."""
    n_chars: npt.NDArray[np.uint32]
    content: npt.NDArray[np.uint8]
    """[N, 16]: hash of the normalised text."""
    keys: LoadKeys
    texts: LoadTexts
    priority: npt.NDArray[np.int32] | int = 0
    """Of two near-duplicates the one of larger priority survives."""


class Documents(NamedTuple):
    """All of tonight's N documents, file after file, of F files."""

    ids: pa.Array
    priority: npt.NDArray[np.int32]
    n_chars: npt.NDArray[np.uint32]
    content: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    """[F]: first document of each file."""
    keys: list[LoadKeys]
    texts: list[LoadTexts]

    @classmethod
    def of(cls, files: Iterable[DocumentFile], id_type: pa.DataType) -> Self:
        """Join files. The result holds their columns once, and what reads their keys and texts."""
        files = list(files)
        sizes = [len(file.ids) for file in files]
        priority = [np.full(size, file.priority, np.int32) for size, file in zip(sizes, files, strict=True)]
        return cls(
            pa.chunked_array([file.ids for file in files], id_type).combine_chunks(),
            np.concatenate([np.zeros(0, np.int32), *priority]),
            np.concatenate([np.zeros(0, np.uint32), *(file.n_chars for file in files)]),
            np.concatenate([np.zeros((0, 16), np.uint8), *(file.content for file in files)]),
            np.cumsum([0, *sizes])[:-1],
            [file.keys for file in files],
            [file.texts for file in files],
        )

    def slices(self) -> list[slice]:
        """Return where the documents of each file are."""
        return [slice(start, stop) for start, stop in pairwise([*self.starts.tolist(), len(self.ids)])]


class Distinct(NamedTuple):
    """Tonight's distinct texts, numbered in order of survival."""

    documents: Documents
    nodes: Numbers
    """The document that stands for each number."""
    node: Numbers
    """[N]: the number of each document."""

    def keys(self, groups: Sequence[int]) -> Iterator[tuple[Numbers, Keys]]:
        """Yield numbers and their keys, uint64 [groups, numbers], one file after another."""
        start = 0
        for load in self.documents.keys:
            part = load(groups)
            numbers = self.node[start : start + part.shape[1]]
            # A copy's keys are those of the document that stands for it.
            first = self.nodes[numbers] == np.arange(start, start + len(numbers))
            yield numbers[first], part[:, first]
            start += len(numbers)


def collapse(documents: Documents) -> Distinct:
    """Number the distinct texts by who survives: source priority, then length, then id."""
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
    return Distinct(documents, nodes, node)


class HistoryBatch(NamedTuple):
    """M earlier documents, one file's worth."""

    documents: pa.Table
    """`id`, `cluster` (strings) and `kept`."""
    content: npt.NDArray[np.uint8]
    """[M, 16]."""
    keys: Keys
    """[1 + bands, M], as in a key file."""


class EarlierFile(NamedTuple):
    """One file of earlier documents; its texts are read only where they are compared."""

    read: Callable[[], HistoryBatch]
    texts: LoadTexts
