"""Arrays that are mapped: hashed once, never believed without it, copied from elsewhere."""

import io
import os
import time

import numpy as np
import pytest

from slimpajama.core.errors import DamagedError, StorageError
from slimpajama.workspace import mapped
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import entry_of
from slimpajama.workspace.mapped import array_bytes, holds, mapped_array

ARRAY = np.arange(50_000, dtype=np.uint16)
PATH = "nights/n/index/a.ids.npy"


class Elsewhere:
    """A store whose files are not on this machine's disk."""

    uri = "s3://bucket/prefix"

    def __init__(self, data):
        self.data, self.opened = data, 0

    def open(self, path):
        self.opened += 1
        return io.BytesIO(self.data)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(mapped.CACHE_VARIABLE, str(tmp_path / "cache"))
    mapped._cache.cache_clear()
    yield tmp_path / "cache"
    mapped._cache.cache_clear()


@pytest.fixture
def store(tmp_path):
    store = LocalStore(str(tmp_path / "w"))
    store.write(PATH, array_bytes(ARRAY))
    return store


def entry(array=ARRAY):
    return entry_of(PATH, array_bytes(array))


@pytest.fixture
def hashed(monkeypatch):
    """Count what is hashed."""
    calls, real = [], mapped.hashlib.file_digest
    monkeypatch.setattr(mapped.hashlib, "file_digest", lambda *given: calls.append(1) or real(*given))
    return calls


@pytest.mark.parametrize("dtype", ["u2", "u4", "i4", "i8"])
def test_an_array_comes_back_as_it_was_and_cannot_be_written_to(tmp_path, cache, dtype):
    array, store = ARRAY.astype(dtype), LocalStore(str(tmp_path))
    store.write(PATH, array_bytes(array))
    found = mapped_array(store, entry(array))
    assert found.dtype == array.dtype
    assert (found == array).all()
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1


def test_a_file_is_hashed_once_and_again_when_it_changed(store, cache, hashed):
    for _ in range(3):
        mapped_array(store, entry())
    assert len(hashed) == 1
    path, data = store.root / PATH, array_bytes(ARRAY)
    times = path.stat()
    path.write_bytes(data[:-1] + b"!")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    with pytest.raises(DamagedError, match="not what its manifest says"):
        mapped_array(store, entry())
    path.write_bytes(data[:-2])
    with pytest.raises(DamagedError, match=f"{len(data) - 2} bytes"):
        mapped_array(store, entry())


def test_without_a_cache_a_file_is_hashed_each_time(store, tmp_path, monkeypatch, hashed):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv(mapped.CACHE_VARIABLE, str(tmp_path / "file" / "cache"))
    mapped._cache.cache_clear()
    for _ in range(2):
        mapped_array(store, entry())
    assert len(hashed) == 2
    assert (mapped_array(Elsewhere(array_bytes(ARRAY)), entry()) == ARRAY).all()


def test_a_missing_file_is_an_error_that_names_it(store, cache):
    store.delete(PATH)
    with pytest.raises(StorageError, match=PATH):
        mapped_array(store, entry())


def test_what_is_no_array_of_one_dimension_is_refused(tmp_path, cache):
    store = LocalStore(str(tmp_path))
    magic = b"\x93NUMPY\x01\x00"
    heads = (b"(((", b"{'a': 1, 2: 3}", b"[" * 300, b"{'descr': 'u2\n  x\n y", b"\xff")
    made_up = [magic + len(head).to_bytes(2, "little") + head + bytes(300) for head in heads]
    for data in (b"", b"x" * 300, array_bytes(np.ones((3, 3), np.int32)), array_bytes(ARRAY)[:200], *made_up):
        store.write(PATH, data)
        with pytest.raises(DamagedError, match="not what its manifest says"):
            mapped_array(store, entry_of(PATH, data))


def test_a_file_from_elsewhere_is_copied_once_and_a_damaged_copy_is_made_again(cache):
    store = Elsewhere(array_bytes(ARRAY))
    for _ in range(3):
        assert (mapped_array(store, entry()) == ARRAY).all()
    assert store.opened == 1
    (cache / entry().sha256).write_bytes(b"damaged")
    assert (mapped_array(store, entry()) == ARRAY).all()
    assert store.opened == 2
    store.data = store.data[:-1] + b"!"
    (cache / entry().sha256).unlink()
    with pytest.raises(DamagedError, match="not what its manifest says"):
        mapped_array(store, entry())


def test_what_a_check_held_for_is_not_checked_again_and_what_it_did_not_is(cache):
    answers = iter([False, True])
    assert [holds(f"{'0' * 64}-check", lambda: next(answers)) for _ in range(4)] == [False, True, True, True]
    with pytest.raises(StopIteration):
        holds(f"{'1' * 64}-check", lambda: next(answers))


def test_what_nobody_used_for_a_month_goes(cache):
    mapped_array(Elsewhere(array_bytes(ARRAY)), entry())
    other = ARRAY[::-1]
    mapped_array(Elsewhere(array_bytes(other)), entry(other))
    long_ago = time.time() - 31 * mapped.DAY_S
    for path in cache.iterdir():
        if path.name.startswith(entry().sha256):
            os.utime(path, (long_ago, long_ago))
    mapped._cache.cache_clear()
    mapped_array(Elsewhere(array_bytes(other)), entry(other))
    assert {path.name[:64] for path in cache.iterdir()} == {entry(other).sha256}
