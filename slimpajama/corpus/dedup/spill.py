"""What the decision keeps on disk while it works: candidate pairs, and texts in the order they are compared in."""

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Packed = npt.NDArray[np.uint64]
"""Pairs of documents, smaller number * 2^32 + larger."""
Scored = tuple[Packed, npt.NDArray[np.float64]]
"""Packed pairs, and the exact Jaccard similarity of each."""
# Bits of the larger number.
HALF = np.uint64(0xFFFFFFFF)


def pack(pairs: npt.NDArray[np.int64]) -> Packed:
    """Return int64 [P, 2] as packed pairs."""
    numbers = pairs.astype(np.uint64)
    return numbers[:, 0] << np.uint64(32) | numbers[:, 1]


def unpack(packed: Packed) -> npt.NDArray[np.int64]:
    """Return packed pairs as int64 [P, 2]."""
    return np.stack([packed >> np.uint64(32), packed & HALF], axis=1).astype(np.int64)


def distinct(packed: Packed) -> Packed:
    """Return the distinct values, sorted; `np.unique` goes by a hash table, which is many times slower here."""
    ordered = np.sort(packed)
    return ordered[np.append(True, ordered[1:] != ordered[:-1])] if len(ordered) else ordered


def runs(values: npt.NDArray[Any]) -> Iterator[tuple[int, int]]:
    """Yield where each run of equal values begins and ends."""
    if len(values):
        starts = np.flatnonzero(values[1:] != values[:-1]) + 1
        yield from pairwise([0, *starts.tolist(), len(values)])


def save(path: Path, packed: Packed) -> None:
    """Write packed pairs for `np.fromfile`; `tofile` raises no error if the disk is full at the last 4 kB."""
    path.write_bytes(packed.data)


class PairSet:
    """Packed pairs in memory up to `limit` of them, the rest in files; a file repeats nothing of its own."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._files: list[Path] = []
        self._held = np.zeros(0, np.uint64)

    def add(self, packed: Packed) -> None:
        if len(packed):
            self._held = distinct(np.concatenate([self._held, packed]))
        if len(self._held) > self._limit:
            self._files.append(self._folder / f"run-{len(self._files):05d}")
            save(self._files[-1], self._held)
            self._held = np.zeros(0, np.uint64)

    def blocks(self) -> Iterator[Packed]:
        """Yield all pairs, a block at a time; two blocks may share some."""
        for file in self._files:
            yield np.fromfile(file, np.uint64)
        if len(self._held) or not self._files:
            yield self._held

    def clear(self) -> None:
        for file in self._files:
            file.unlink()
        self._files, self._held = [], np.zeros(0, np.uint64)


class TextBuckets:
    """Texts by bucket: added in any order, returned a bucket at a time; up to `limit` bytes wait in memory."""

    def __init__(self, folder: Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._waiting: list[pa.Table] = []
        self._bytes, self._spilled = 0, False

    def add(self, bucket: npt.NDArray[np.uint32], node: npt.NDArray[np.uint32], text: pa.LargeStringArray) -> None:
        self._waiting.append(pa.table({"bucket": bucket, "node": node, "text": text}))
        self._bytes += text.nbytes
        if self._bytes > self._limit:
            self._write()

    def _write(self) -> None:
        table = pa.concat_tables(self._waiting).sort_by("bucket")
        self._waiting, self._bytes, self._spilled = [], 0, True
        buckets = table["bucket"].to_numpy()
        for start, end in runs(buckets):
            part = table.slice(start, end - start)
            with (
                pa.OSFile(str(self._folder / f"{buckets[start]}"), "ab") as sink,
                pa.ipc.new_stream(sink, part.schema) as writer,
            ):
                writer.write_table(part)

    def take(self, bucket: int) -> pa.Table:
        """Return `node`, ascending, and `text` of one bucket; call this when all texts are added."""
        if self._spilled and self._waiting:
            self._write()
        file, tables = self._folder / str(bucket), []
        if self._spilled:
            with pa.OSFile(str(file), "rb") as source:
                while source.tell() < source.size():
                    tables.append(pa.ipc.open_stream(source).read_all())
            file.unlink()
        else:
            tables = [table.filter(pc.field("bucket") == bucket) for table in self._waiting]
        return pa.concat_tables(tables).sort_by("node")
