"""Documents as the decision takes them: those that came in tonight, and those of earlier nights."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Keys = npt.NDArray[np.uint64]
LoadTexts = Callable[[int, npt.NDArray[np.int64]], pa.LargeStringArray]
"""File index and rows, ascending -> their texts; null where a text is gone."""


class DocumentFile(NamedTuple):
    """N of tonight's documents, whose keys and texts lie in one file each."""

    ids: pa.Array
    """Strings, or `pack_ids` of them."""
    n_chars: npt.NDArray[np.uint32]
    content: npt.NDArray[np.uint8]
    """[N, 16]: hash of the normalised text."""
    keys: Callable[[Sequence[int]], Keys]
    """Row groups of the key file -> uint64 [groups, N]."""
    texts: Callable[[npt.NDArray[np.int64]], pa.LargeStringArray]
    """Rows, ascending -> their texts."""
    priority: npt.NDArray[np.int32] | int = 0
    """Of two near-duplicates the one of larger priority survives."""


class Documents(NamedTuple):
    """All of tonight's N documents, file after file."""

    ids: pa.Array
    priority: npt.NDArray[np.int32]
    n_chars: npt.NDArray[np.uint32]
    content: npt.NDArray[np.uint8]
    starts: npt.NDArray[np.int64]
    """[F]: first document of each file."""
    keys: Callable[[Sequence[int]], Iterable[Keys]]
    """Row groups -> keys of one file after another; called several times."""
    texts: LoadTexts

    @classmethod
    def of(cls, files: Iterable[DocumentFile], id_type: pa.DataType) -> Documents:
        """Join files. The result holds their columns once, and what reads their keys and texts."""
        files = list(files)
        keys, texts = [file.keys for file in files], [file.texts for file in files]
        sizes = [len(file.ids) for file in files]
        priority = [np.full(size, file.priority, np.int32) for size, file in zip(sizes, files, strict=True)]
        return cls(
            pa.chunked_array([file.ids for file in files], id_type).combine_chunks(),
            np.concatenate([np.zeros(0, np.int32), *priority]),
            np.concatenate([np.zeros(0, np.uint32), *(file.n_chars for file in files)]),
            np.concatenate([np.zeros((0, 16), np.uint8), *(file.content for file in files)]),
            np.cumsum([0, *sizes])[:-1],
            lambda groups: (read(groups) for read in keys),
            lambda file_index, rows: texts[file_index](rows),
        )

    def slices(self) -> list[slice]:
        """Return where the documents of each file are."""
        return [slice(start, stop) for start, stop in pairwise([*self.starts.tolist(), len(self.ids)])]


class HistoryBatch(NamedTuple):
    """M earlier documents, one file's worth."""

    documents: pa.Table
    """`id`, `cluster` (strings) and `kept`."""
    content: npt.NDArray[np.uint8]
    """[M, 16]."""
    keys: Keys
    """[1 + bands, M], as in a key file."""


class History(Protocol):
    """Earlier documents, oldest first, a file at a time."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[HistoryBatch]: ...
    def texts(self, file_index: int, rows: npt.NDArray[np.int64]) -> pa.LargeStringArray: ...
