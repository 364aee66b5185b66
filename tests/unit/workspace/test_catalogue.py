"""Manifests, pointers and records carry a digest of their own, and what was published is known to be missing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slimpajama.core.errors import StorageError
from slimpajama.workspace import layout
from slimpajama.workspace.catalogue import forget, note, read_pointer, swap_pointer, write_manifest
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import FileEntry, Manifest, json_bytes, load_manifest
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.registry import Models
from slimpajama.workspace.store import parsed_json, sealed
from slimpajama.workspace.tombstones import forgotten_list

RECORD = {"model": "夜-tiny", "history": [{"action": "promote", "n": 1.5}], "night": "2026-01-01"}


@pytest.fixture
def store(tmp_path: Path) -> LocalStore:
    return LocalStore(str(tmp_path))


def test_every_flipped_bit_of_a_record_is_noticed() -> None:
    data = sealed(json_bytes(RECORD))
    assert parsed_json(data, "x") == RECORD
    assert set(json.loads(data)) == {*RECORD, "checksum"}
    for bit in range(8 * len(data)):
        changed = bytearray(data)
        changed[bit // 8] ^= 1 << bit % 8
        with pytest.raises(StorageError, match=r"x: (damaged|not readable)"):
            parsed_json(bytes(changed), "x")


def test_a_record_that_is_cut_or_longer_is_noticed() -> None:
    data = sealed(json_bytes(RECORD))
    for other in (*(data[:end] for end in range(len(data))), data + b"\n", data + data):
        with pytest.raises(StorageError, match=r"x: (damaged|not readable)"):
            parsed_json(other, "x")


def test_records_of_earlier_versions_are_read_without_a_digest() -> None:
    assert parsed_json(json_bytes(RECORD), "x") == RECORD


def test_a_damaged_manifest_is_refused(store: LocalStore) -> None:
    path, manifest = layout.night("n").manifest, Manifest("night", "0", (FileEntry("a", "0" * 64, 3),), {}, {})
    write_manifest(store, path, manifest)
    assert load_manifest(store, path) == manifest
    store.write(path, store.read(path).replace(b'"bytes": 3', b'"bytes": 7'))
    with pytest.raises(StorageError, match="damaged: its content and its own checksum differ"):
        load_manifest(store, path)


@pytest.mark.parametrize("path", [layout.NIGHTS_INDEX, layout.CHAMPION, layout.TUNED, layout.FORGOTTEN])
def test_a_pointer_that_was_published_and_is_gone_is_an_error_and_no_beginning(store: LocalStore, path: str) -> None:
    def read() -> None:
        Nights(store).published()
        Models(store).history()
        Models(store).tuned_tasks()
        forgotten_list(store)

    read()
    value = {"nights": [], "history": [], "tasks": {}, "documents": [], "unfinished": []}
    assert swap_pointer(store, path, value, "")
    read()
    store.delete(path)
    with pytest.raises(StorageError, match=rf"{path}: missing, and was published.*delete published/{path}, too"):
        read()
    store.delete(layout.noted(path))
    read()


def test_who_writes_a_pointer_while_it_is_read_is_no_loss(store: LocalStore, monkeypatch: pytest.MonkeyPatch) -> None:
    exists = LocalStore.exists

    def write_first(self: LocalStore, path: str) -> bool:
        monkeypatch.undo()
        assert swap_pointer(store, layout.CHAMPION, RECORD, "")
        return exists(self, path)

    monkeypatch.setattr(LocalStore, "exists", write_first)
    assert read_pointer(store, layout.CHAMPION, {})[0] == RECORD


def test_what_is_forgotten_is_not_missed(store: LocalStore) -> None:
    folder = layout.model("m")
    for path in (folder.manifest, folder.evaluation("n").manifest):
        write_manifest(store, path, Manifest("x", "0", (), {}, {}))
    note(store, layout.CHAMPION)
    forget(store, folder.path)
    assert store.list() == [layout.noted(layout.CHAMPION)]


def test_manifests_between_steps_are_not_noted(store: LocalStore) -> None:
    write_manifest(store, f"{layout.night('n').work('clean')}/manifest.json", Manifest("clean", "0", (), {}, {}))
    assert store.list() == ["nights/n/work/clean/manifest.json"]
