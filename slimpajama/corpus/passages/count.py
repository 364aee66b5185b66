"""In how many documents of all nights each of tonight's windows stands, and in which first and last.

Each part of a night has a file of its windows, ascending, in `GROUPS` row groups by their leading bits. Tonight's are
counted range by range, as many windows at a time as memory holds; earlier ones are streamed past them.
"""

import io
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from slimpajama.corpus.passages.find import HASH_BITS, Windows
from slimpajama.text.kernels import compiled
from slimpajama.workspace.manifest import FileEntry
from slimpajama.workspace.parquet import reading
from slimpajama.workspace.store import Store

GROUPS = 4
GROUP_BITS = HASH_BITS - GROUPS.bit_length() + 1
# While a range is counted, of each of tonight's windows in it; a third of it only where all of them are repeated.
WINDOW_BYTES = 120
# Text that has a window, in bytes: measured 49, of pages of short lines 35.
TEXT_BYTES = 32
# Bits of a place that number a row in its file.
ROW_BITS = 32
SCHEMA = pa.schema([("hash", pa.uint64()), ("row", pa.uint32())])


class Range(NamedTuple):
    """Hashes of windows, from `low` to below `high`."""

    low: int
    high: int

    @property
    def name(self) -> str:
        """What stands in the names of files."""
        return f"{self.low:012x}-{self.high:012x}"


ALL = Range(0, 1 << HASH_BITS)


class Counts(NamedTuple):
    """W windows and the documents that have them, whose places are file number * 2^32 + row."""

    hashes: npt.NDArray[np.uint64]
    """[W], ascending."""
    counts: npt.NDArray[np.int64]
    first: npt.NDArray[np.uint64]
    last: npt.NDArray[np.uint64]


def ranges(text_bytes: int, memory: int) -> list[Range]:
    """Return the ranges of a night's windows, each of which takes at most about `memory` bytes while it is counted."""
    bits = (text_bytes // TEXT_BYTES * WINDOW_BYTES // memory).bit_length()
    step = ALL.high >> bits
    return [Range(low, low + step) for low in range(0, ALL.high, step)]


def window_file(found: Windows) -> bytes:
    """Return a Parquet file of a part's windows, in ascending order; row group g has those that begin with g."""
    sink = io.BytesIO()
    bounds = np.searchsorted(found.hashes, np.arange(GROUPS, dtype=np.uint64) << np.uint64(GROUP_BITS))
    with pq.ParquetWriter(
        sink,
        SCHEMA,
        compression="none",
        use_dictionary=False,
        write_statistics=False,
        column_encoding=dict.fromkeys(SCHEMA.names, "DELTA_BINARY_PACKED"),
    ) as writer:
        for begin, end in zip(bounds, [*bounds[1:], len(found.hashes)], strict=True):
            rows = pa.table([column[begin:end] for column in found], schema=SCHEMA)
            writer.write_table(rows, row_group_size=max(1, len(rows)))
    return sink.getvalue()


def read_windows(file: Any, wanted: Range = ALL) -> Windows:
    """Return the windows of a file that lie in a range."""
    groups = range(wanted.low >> GROUP_BITS, ((wanted.high - 1) >> GROUP_BITS) + 1)
    table = pq.ParquetFile(file).read_row_groups(list(groups), use_threads=False)
    hashes, rows = (table[name].to_numpy() for name in SCHEMA.names)
    inside = slice(*np.searchsorted(hashes, np.array([wanted.low, wanted.high], np.uint64)))
    return Windows(hashes[inside], rows[inside])


def load(store: Store, entry: FileEntry, wanted: Range) -> Windows:
    """Return the windows of a file of the workspace that lie in a range; errors as of `reading`."""
    with reading(store, entry) as file:
        return read_windows(file, wanted)


class Counter:
    """Counts the documents that have tonight's windows of a range; files are added in the order of nights and parts.

    Args:
        tonight: Windows of each of tonight's parts.
        least: Only windows are counted that so many of tonight's documents have; 1 for all.
    """

    def __init__(self, tonight: list[Windows], least: int = 1) -> None:
        ordered = np.sort(np.concatenate([np.zeros(0, np.uint64), *(found.hashes for found in tonight)]))
        behind = max(0, len(ordered) - least + 1)
        hashes = ordered[:behind][ordered[least - 1 :] == ordered[:behind]]
        hashes = hashes[np.append(True, hashes[1:] != hashes[:-1])[: len(hashes)]]
        n = len(hashes)
        nowhere = np.uint64(0xFFFFFFFFFFFFFFFF)
        self._found = Counts(hashes, np.zeros(n, np.int64), np.full(n, nowhere), np.zeros(n, np.uint64))
        # Hashes are evenly spread: a directory over the bits that tell them apart replaces most of a binary search.
        self._low = hashes[0] if n else np.uint64(0)
        span = int(hashes[-1] - self._low) if n else 0
        self._shift = np.uint64(max(0, span.bit_length() - max(1, n.bit_length() - 2)))
        tops = ((hashes - self._low) >> self._shift).astype(np.int64)
        self._directory = np.append(0, np.cumsum(np.bincount(tops, minlength=1)))

    def add(self, found: Windows, file: int) -> None:
        """Count the documents of a file, by its number."""
        _count(found, np.uint64(file << ROW_BITS), self._found, self._low, self._shift, self._directory)

    def repeated(self, least: int) -> Counts:
        """Return the windows that stand in at least so many documents."""
        enough = self._found.counts >= least
        return Counts._make(column[enough] for column in self._found)


@compiled
def _count(found: Any, file: Any, out: Any, low: Any, shift: Any, directory: Any) -> None:
    for w in range(len(found.hashes)):
        value = found.hashes[w]
        top = (value - low) >> shift
        # Below the lowest this wraps around to a large number.
        if top >= np.uint64(len(directory) - 1):
            continue
        i, end = directory[top], directory[top + np.uint64(1)]
        while i < end and out.hashes[i] < value:
            i += 1
        if i < end and out.hashes[i] == value:
            place = file | np.uint64(found.rows[w])
            out.counts[i] += 1
            out.first[i] = min(out.first[i], place)
            out.last[i] = max(out.last[i], place)
