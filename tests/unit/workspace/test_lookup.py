"""Rows are found by one column, with their place in the whole file."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.core.errors import StorageError
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.lookup import find_rows, one_of, starts_with
from slimpajama.workspace.manifest import FileEntry, entry_of
from slimpajama.workspace.parquet import parquet_bytes


def listed(store: LocalStore, *paths: str) -> list[FileEntry]:
    return [entry_of(path, store.read(path)) for path in paths]


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    store = LocalStore(str(tmp_path))
    ids = [f"{number:04d}" for number in range(100)]
    texts = [f"文本{id_}" for id_ in ids]
    partners = [None if number % 2 else id_ for number, id_ in enumerate(ids)]
    for path, part in (("a.parquet", slice(0, 60)), ("b.parquet", slice(60, 100))):
        table = pa.table({"id": ids[part], "text": texts[part], "partner": pa.array(partners[part], pa.string())})
        store.write(path, parquet_bytes(table, row_group_rows=7))
    return store


def test_a_row_is_found_with_its_place_across_row_groups(store: LocalStore) -> None:
    entries = listed(store, "a.parquet", "b.parquet")
    hits = list(find_rows(store, entries, "id", one_of({"0015", "0063", "gone"}), ["text"]))
    assert [(hit.path, hit.row, hit.values) for hit in hits] == [
        ("a.parquet", 15, {"text": "文本0015"}),
        ("b.parquet", 3, {"text": "文本0063"}),
    ]


def test_a_prefix_finds_all_that_begin_with_it_and_no_null(store: LocalStore) -> None:
    hits = find_rows(store, listed(store, "a.parquet", "b.parquet"), "partner", starts_with("006"), ["id"])
    assert [hit.values["id"] for hit in hits] == ["0060", "0062", "0064", "0066", "0068"]


def test_a_damaged_file_is_named(store: LocalStore) -> None:
    store.write("b.parquet", b"PAR1 nothing of the kind PAR1")
    with pytest.raises(StorageError, match=r"b\.parquet: not readable as Parquet"):
        list(find_rows(store, listed(store, "b.parquet"), "id", one_of(["0063"]), ["text"]))


@given(st.sets(st.integers(0, 49)), st.integers(1, 60))
def test_every_wanted_row_is_found_once_in_order(
    tmp_path_factory: pytest.TempPathFactory, wanted: set[int], rows: int
) -> None:
    store = LocalStore(str(tmp_path_factory.mktemp("lookup")))
    table = pa.table({"id": [str(n) for n in range(50)]})
    store.write("c.parquet", parquet_bytes(table, row_group_rows=rows))
    hits = find_rows(store, listed(store, "c.parquet"), "id", one_of({str(n) for n in wanted}), ["id"])
    assert [(hit.row, hit.values["id"]) for hit in hits] == [(n, str(n)) for n in sorted(wanted)]
