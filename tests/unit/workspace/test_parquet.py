"""A listed file is read whole or in part, and no bit of what is read may be another than the listed one."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slimpajama.core.errors import StorageError
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.lookup import find_rows, one_of
from slimpajama.workspace.manifest import BLOCK, FileEntry, Manifest, entry_of, json_bytes
from slimpajama.workspace.parquet import parquet_bytes, read_table, reading

TABLE = pa.table({"id": [f"{n:04d}" for n in range(300)], "text": [f"床前明月光 the moon {n}" for n in range(300)]})


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path))


def flipped(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


@pytest.mark.parametrize("listed_by_an_earlier_version", [False, True])
def test_any_flipped_bit_of_a_table_is_noticed_wherever_it_is(
    store: LocalStore, listed_by_an_earlier_version: bool
) -> None:
    data, draw = parquet_bytes(TABLE, row_group_rows=50), random.Random(1)
    entry = entry_of("t.parquet", data, 300)
    entry = replace(entry, crc32="") if listed_by_an_earlier_version else entry
    store.write("t.parquet", data)
    assert read_table(store, entry).equals(TABLE)
    footer = range(8 * (len(data) - 2000), 8 * len(data))
    for bit in [*draw.sample(range(8 * len(data)), 40), *draw.sample(footer, 40)]:
        # A store of its own: what an earlier version listed is hashed once a process.
        other = LocalStore(store.uri)
        other.write("t.parquet", flipped(data, bit))
        with pytest.raises(StorageError, match=r"t\.parquet: the file is not what its manifest says"):
            read_table(other, entry)
        with pytest.raises(StorageError, match=r"t\.parquet: the file is not what its manifest says"):
            list(find_rows(other, [entry], "id", one_of(["0007"]), ["text"]))


def test_of_a_large_file_only_the_blocks_that_are_needed_are_read_and_checked(store: LocalStore) -> None:
    draw = random.Random(2)
    table = pa.table({"key": range(40), "noise": [draw.randbytes(100_000) for _ in range(40)]})
    data = parquet_bytes(table, row_group_rows=10)
    entry = entry_of("t.parquet", data, 40)
    assert len(entry.crc32) == 8 * -(-len(data) // BLOCK) > 100
    place = data.index(table["noise"][15].as_py()[:50])
    store.write("t.parquet", flipped(data, 8 * place))
    with reading(store, entry) as file:
        assert pq.ParquetFile(file).read_row_group(3).equals(table.slice(30))
    assert read_table(store, entry, ["key"]).equals(table.select(["key"]))
    with pytest.raises(StorageError, match="expected the checksums listed"):
        read_table(store, entry)


def test_a_checked_file_reads_like_any_other(store: LocalStore) -> None:
    data, draw = random.Random(3).randbytes(3 * BLOCK + 77), random.Random(4)
    store.write("x.arrow", data)
    with reading(store, entry_of("x.arrow", data)) as file:
        for _ in range(200):
            start, size = draw.randrange(len(data) + 9), draw.choice([0, 1, 8, 5000, BLOCK, 2 * BLOCK, -1])
            assert file.seek(start) == start
            assert file.read(size) == (data[start:] if size < 0 else data[start : start + size])
            assert file.tell() <= max(start, len(data))
        assert file.seek(-4, 2) == len(data) - 4
        assert file.read() == data[-4:]


def test_checksums_of_blocks_change_no_digest() -> None:
    entry = entry_of("a.parquet", b"content")
    assert entry.crc32
    old, new = (Manifest("x", "0", (one,), {}, {}) for one in (replace(entry, crc32=""), entry))
    assert old.digest == new.digest
    assert b"crc32" in json_bytes(new)
    assert b"crc32" not in json_bytes(old)
    assert entry_of("a.json", b"{}") == FileEntry("a.json", entry_of("a.json", b"{}").sha256, 2)
