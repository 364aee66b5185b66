"""The promises of the workspace on a disk; tests/e2e/test_s3.py holds the same ones against a real S3 server."""

import errno
import multiprocessing
import os
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from slimpajama.core.errors import LockedError, StorageError
from slimpajama.workspace import lease
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import entry_of
from slimpajama.workspace.open import open_store
from slimpajama.workspace.parquet import parquet_bytes, read_table, read_with_checksum, reading, with_checksum


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "工作区"))


def test_a_written_file_reads_back_and_is_listed(store):
    store.write("a/b.txt", "你好".encode())
    assert store.read("a/b.txt").decode() == "你好"
    assert store.list() == ["a/b.txt"]
    assert store.list("a") == ["a/b.txt"]
    assert store.exists("a/b.txt")


@pytest.mark.parametrize(("start", "end"), [(0, None), (2, None), (0, 3), (2, 5), (4, 4), (4, 99)])
def test_a_range_of_a_file_is_read_alone(store, start, end):
    store.write("a", b"0123456789")
    assert store.read("a", start, end) == b"0123456789"[start:end]


def test_listings_are_sorted_and_hide_temporary_files(store):
    for name in ("z", "a/y", "a.b", "中"):
        store.write(name, b"")
    (store.root / ".tmp" / "left-by-a-kill").write_bytes(b"half")
    assert store.list() == sorted(["z", "a/y", "a.b", "中"])


def test_only_the_first_create_wins(store):
    assert store.create("pointer", b"first")
    assert not store.create("pointer", b"second")
    assert store.read("pointer") == b"first"


def test_swap_refuses_a_version_that_is_gone(store):
    _, nothing = store.read_versioned("pointer")
    assert store.swap("pointer", b"1", nothing)
    _, version = store.read_versioned("pointer")
    assert store.swap("pointer", b"2", version)
    assert not store.swap("pointer", b"3", version)
    assert not store.swap("pointer", b"3", nothing)
    assert store.read("pointer") == b"2"


def _race(root, number, results):
    store = LocalStore(root)
    for _ in range(25):
        while True:
            data, version = store.read_versioned("counter")
            if store.swap("counter", str(int(data or b"0") + 1).encode(), version):
                break
    results.put(number)


def test_no_increment_is_lost_when_processes_race_for_a_pointer(store):
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    racers = [context.Process(target=_race, args=(str(store.root), n, results)) for n in range(3)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    assert store.read("counter") == b"75"


def _hold(root, ready, leave):
    with LocalStore(root).lock("holder"):
        ready.set()
        leave.wait()


def test_a_second_process_is_told_who_holds_the_workspace_and_a_killed_holder_lets_go(store):
    context = multiprocessing.get_context("spawn")
    ready, leave = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(str(store.root), ready, leave))
    holder.start()
    assert ready.wait(30)
    with pytest.raises(LockedError, match=f"holder, process {holder.pid}"), store.lock("me"):
        pass
    os.kill(holder.pid, 9)
    holder.join()
    with store.lock("me"):
        pass


def test_the_lock_clears_what_killed_writers_left(store):
    leftover = store.root / ".tmp" / "0123"
    leftover.parent.mkdir()
    leftover.write_bytes(b"half")
    with store.lock("me"):
        assert not leftover.exists()


def test_a_path_cannot_leave_the_workspace(store):
    for path in ("../x", "a/../../x", "/etc/passwd"):
        for run in (store.read, store.list, store.size, store.delete_tree, lambda path: store.write(path, b"")):
            with pytest.raises(StorageError, match="leaves the workspace"):
                run(path)


def test_the_whole_workspace_is_never_deleted(store):
    with pytest.raises(StorageError, match="refusing"):
        store.delete_tree("")


def test_a_missing_file_is_named(store):
    with pytest.raises(StorageError, match=r"nights/x\.parquet.*No such file"):
        store.read("nights/x.parquet")


def test_a_full_disk_leaves_the_old_file_and_says_what_to_do(store, monkeypatch):
    store.write("a", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"No space left.*Run again"):
        store.write("a", b"new")
    monkeypatch.undo()
    assert store.read("a") == b"old"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file whose first byte cannot be read is Linux's")
def test_what_a_disk_fails_to_read_is_named_with_what_to_do(store, monkeypatch):
    monkeypatch.setattr(store, "_open", lambda flags, folder, names: os.open("/proc/self/mem", flags))
    with pytest.raises(StorageError, match=r"坏: cannot be read: Input/output error\. The disk may be failing: .*log"):
        store.read("坏")


def test_a_folder_that_cannot_be_listed_is_an_error_and_one_that_is_gone_is_empty(store, monkeypatch):
    store.write("a/b", b"1")
    assert store.list("gone") == []

    def failing(folder):
        raise OSError(errno.EIO, os.strerror(errno.EIO), str(folder))

    monkeypatch.setattr(os, "scandir", failing)
    with pytest.raises(StorageError, match="cannot be listed: Input/output error"):
        store.list()


def test_a_pointer_is_replaced_while_another_process_takes_the_workspace(store):
    """Taking it clears what killed writers left; a pointer's temporary file is not that."""

    def take():
        with LocalStore(str(store.root)).lock("night"):
            pass

    taking = threading.Thread(target=take)
    with store._swapping(), store._folder([".tmp"], make=True) as folder:
        temporary = store.root / ".tmp" / store._temporary(folder, b"1")
        taking.start()
        # It waits, or the file is gone by now.
        taking.join(0.2)
        assert temporary.exists()
    taking.join()
    assert not temporary.exists()


def test_a_lease_outlives_a_store_that_fails_for_a_while(monkeypatch):
    monkeypatch.setattr(lease, "LEASE_S", 0.03)
    renewed, answers = threading.Event(), iter([StorageError("away"), StorageError("away")])

    class Failing:
        def read_versioned(self, path):
            if error := next(answers, None):
                raise error
            return held._body("night"), "1"

        def swap(self, path, data, version):
            renewed.set()
            return True

    held = lease.Lease(Failing(), "night")
    held.thread.start()
    assert renewed.wait(10)
    held.stop.set()
    held.thread.join()


def test_a_damaged_piece_of_a_file_is_named(store):
    whole = with_checksum("中文 text".encode())
    store.write("a", b"head" + whole)
    assert read_with_checksum(store, "a", 4, 4 + len(whole), "Again.").decode() == "中文 text"
    store.write("a", b"head" + whole[:3] + b"?" + whole[4:])
    with pytest.raises(StorageError, match=r"a: damaged: found bytes 4 to 19\. Again\."):
        read_with_checksum(store, "a", 4, 4 + len(whole), "Again.")


def test_the_same_table_gives_the_same_bytes_and_reads_back(store):
    table = pa.table({"text": ["中文", "english"], "n": [1, 2]})
    assert parquet_bytes(table) == parquet_bytes(table)
    store.write("t.parquet", parquet_bytes(table))
    assert read_table(store, entry_of("t.parquet", store.read("t.parquet"))).equals(table)
    assert read_table(store, entry_of("t.parquet", store.read("t.parquet")), ["n"]).column_names == ["n"]


def test_a_cut_parquet_file_is_named(store):
    store.write("t.parquet", parquet_bytes(pa.table({"n": [1]}))[:-20])
    with pytest.raises(StorageError, match=r"t\.parquet: not readable as Parquet"):
        read_table(store, entry_of("t.parquet", store.read("t.parquet")))


def test_a_file_of_another_size_than_is_listed_is_not_read(store):
    data = parquet_bytes(pa.table({"text": ["中文", "english"]}))
    store.write("t.parquet", data)
    assert read_table(store, entry_of("t.parquet", data), ["text"]).num_rows == 2
    with pytest.raises(
        StorageError, match=rf"t\.parquet: .*expected 9 bytes, found {len(data)} bytes\..*`slimpajama verify` says"
    ):
        read_table(store, entry_of("t.parquet", b"nine byte"), ["text"])


def test_whatever_arrow_says_of_a_file_names_it_and_what_next(store):
    store.write("a.arrow", b"ARROW1 no more")
    with (
        pytest.raises(StorageError, match=r"a\.arrow: not readable .*slimpajama verify"),
        reading(store, entry_of("a.arrow", b"ARROW1 no more")) as file,
    ):
        pa.ipc.open_file(file)
    with (
        pytest.raises(StorageError, match=r"b\.arrow: cannot be read: .*slimpajama verify"),
        reading(store, entry_of("b.arrow", b"")),
    ):
        pass


def test_an_unknown_kind_of_workspace_is_refused():
    with pytest.raises(StorageError, match="ftp://host/x: unknown kind"):
        open_store("ftp://host/x")
