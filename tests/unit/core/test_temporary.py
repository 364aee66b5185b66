import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
import zstandard
from bad_inputs import LINES, parquet, table

from slimpajama.core.errors import StorageError
from slimpajama.core.temporary import temporary_folder
from slimpajama.corpus.dedup.spill import save
from slimpajama.corpus.sources import files
from slimpajama.corpus.sources.records import ReadOptions

WHAT_TO_DO = r"Make room there, or let TMPDIR name another folder\. Run again"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The system's folder for temporary files, empty."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def written(name: str, failure: OSError | None = None) -> None:
    with temporary_folder() as own:
        (own / "half").write_text("今天")
        if failure:
            raise failure
        save(own / name, np.arange(10, dtype=np.uint64))
        assert np.fromfile(own / name, np.uint64).tolist() == list(range(10))


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_what_the_disk_says_names_the_folder_and_leaves_nothing(folder: Path, code: int):
    with pytest.raises(StorageError, match=rf"{folder}: .*: {os.strerror(code)}\. {WHAT_TO_DO}"):
        written("numbers", OSError(code, os.strerror(code)))
    assert not list(folder.iterdir())


def test_a_few_pairs_that_find_no_room_are_not_lost_without_a_word(folder: Path):
    """On Linux every write to this device finds it full; numpy's `tofile` does not tell."""
    written("numbers")
    with pytest.raises(StorageError, match=rf"{folder}: .*: No space left on device\. {WHAT_TO_DO}"):
        written("/dev/full")
    assert not list(folder.iterdir())


def test_a_system_without_any_such_folder_is_told(monkeypatch: pytest.MonkeyPatch):
    def none() -> str:
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setattr(tempfile, "_get_default_tempdir", none)
    monkeypatch.setenv("TMPDIR", "/nowhere")
    with pytest.raises(StorageError, match=rf"/nowhere: .*No usable temporary directory.*{WHAT_TO_DO}"):
        written("numbers")


def test_a_packed_table_that_does_not_fit_there_ends_the_run_and_is_not_left_out(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    packed = folder / "a.parquet.zst"
    packed.write_bytes(zstandard.compress(parquet(table(*LINES))))
    real = tempfile.NamedTemporaryFile

    def full():
        made = real()
        made.write = lambda _: (_ for _ in ()).throw(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        return made

    monkeypatch.setattr(tempfile, "NamedTemporaryFile", full)
    with pytest.raises(StorageError, match=rf"{folder}: .*No space left on device\. {WHAT_TO_DO}"):
        list(files.read(lambda: packed.open("rb"), packed.name, ReadOptions(max_document_bytes=1_000_000)))
    assert list(folder.iterdir()) == [packed]
