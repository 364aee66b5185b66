"""Single rows of a workspace's Parquet files, found without reading the whole files.

One column is searched, row group by row group; the other columns are read only of a row group in which it matches.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from slimpajama.workspace.manifest import FileEntry
from slimpajama.workspace.parquet import reading
from slimpajama.workspace.store import Store

Match = Callable[[pa.ChunkedArray], pa.ChunkedArray]


@dataclass(frozen=True, slots=True)
class Hit:
    """One row that was found."""

    path: str
    row: int
    """From 0, in the whole file."""
    values: dict[str, Any]


def one_of(values: Collection[str]) -> Match:
    """Match any of `values`."""
    wanted = pa.array(sorted(values), pa.string())
    return lambda column: pc.is_in(column, value_set=wanted)


def starts_with(prefix: str) -> Match:
    """Match values that start with `prefix`."""
    return lambda column: pc.fill_null(pc.starts_with(column, prefix), False)


def find_rows(
    store: Store, entries: Iterable[FileEntry], column: str, match: Match, columns: list[str]
) -> Iterator[Hit]:
    """Yield the rows whose `column` matches, in the order of files and rows.

    Args:
        entries: Parquet files, all of which have `column` and `columns`.
        match: `one_of(...)` or `starts_with(...)`.
        columns: What to return of a row that matches.

    Raises:
        StorageError: If a file is damaged where it is read, or not readable as Parquet.
    """
    for entry in entries:
        with reading(store, entry) as file:
            yield from _find(pq.ParquetFile(file), entry.path, column, match, columns)


def _find(parquet: pq.ParquetFile, path: str, column: str, match: Match, columns: list[str]) -> Iterator[Hit]:
    first = 0
    for group in range(parquet.num_row_groups):
        keys = parquet.read_row_group(group, columns=[column])[column]
        places = np.flatnonzero(match(keys).to_numpy())
        if len(places):
            rows = parquet.read_row_group(group, columns=columns).take(places).to_pylist()
            yield from (Hit(path, first + int(place), row) for place, row in zip(places, rows, strict=True))
        first += len(keys)
