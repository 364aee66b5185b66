"""A workspace found at an address, and a scratch workspace through which another one shows."""

import pytest

from slimpajama.core.errors import StorageError
from slimpajama.workspace.open import find_workspace, open_workspace, scratch_workspace


@pytest.fixture
def base(tmp_path):
    workspace = open_workspace(str(tmp_path / "base"))
    for path in ("nights/a/x", "nights/b/x"):
        workspace.store.write(path, b"base")
    return workspace


def test_a_folder_without_a_night_is_no_workspace_and_is_not_made_one(tmp_path, base):
    assert find_workspace(str(tmp_path / "none")) is None
    assert not (tmp_path / "none").exists()
    assert find_workspace(base.uri) is None
    base.store.write("nights/index.json", b'{"nights": []}')
    assert find_workspace(base.uri).uri == base.uri


def test_a_scratch_workspace_reads_both_and_writes_its_own_alone(tmp_path, base):
    scratch = scratch_workspace(str(tmp_path / "scratch"), base, hidden=("nights/b/",)).store
    assert (scratch.uri, scratch.read("nights/a/x"), scratch.list()) == (base.uri, b"base", ["nights/a/x"])
    assert not scratch.exists("nights/b/x")
    scratch.write("nights/a/x", b"own")
    assert (scratch.read("nights/a/x"), scratch.read_versioned("nights/a/x")[0]) == (b"own", b"own")
    with scratch.open("nights/a/x") as file:
        assert file.read() == b"own"
    scratch.delete_tree("nights")
    assert base.store.read("nights/a/x") == b"base"
    with pytest.raises(StorageError):
        scratch.read("nights/b/x")


def test_a_scratch_workspace_needs_no_other(tmp_path):
    assert scratch_workspace(str(tmp_path)).store.list() == []
