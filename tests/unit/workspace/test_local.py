"""Links in a workspace on a disk lead nowhere: below the first level, and where another account has made them."""

import errno
import os
import tempfile
from pathlib import Path

import pytest

from slimpajama.core.errors import StorageError
from slimpajama.ops.verify import verify
from slimpajama.workspace import layout
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import FileEntry, Manifest, json_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.store import sha256

HIDDEN = (".tmp", ".lock", ".lock.swap")
DEEP = (
    "nights/今天",
    "nights/n/work",
    "nights/n/work/clean",
    "models/m",
    "models/m/evaluations",
    "models/m/checkpoints",
    "models/champion.json",
    "tuned/t",
    "tuned/current.json",
    "pairs/set",
    "reports/n",
    "reports/n/report.html",
    "forgotten/index.json",
    "nights/index.json",
    "nights/.tmp",
    "repair",
)


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "工作区"))


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "别处"
    (folder / "里").mkdir(parents=True)
    for name in ("one", "里/two"):
        (folder / name).write_bytes(b"keep me")
    return folder


def state(folder):
    return {path: (path.lstat().st_ino, path.is_file() and path.read_bytes()) for path in sorted(folder.rglob("*"))}


def plant(store, path, target):
    link = store.root / path
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)


def tried(store, path):
    """Run every operation on and below a path; return what was refused."""

    def locked():
        with store.lock("me"):
            pass

    operations = {
        "write": lambda name: store.write(name, b"1"),
        "create": lambda name: store.create(name, b"1"),
        "swap": lambda name: store.swap(name, b"1", sha256(b"keep me")),
        "read": store.read,
        "exists": store.exists,
        "list": store.list,
        "size": store.size,
        "delete_tree": store.delete_tree,
        "lock": lambda name: locked(),
    }
    refused = {}
    for name in (path, f"{path}/one", f"{path}/里/two"):
        for operation, run in operations.items():
            try:
                run(name)
            except StorageError as error:
                refused[operation, name] = str(error)
    store.delete(f"{path}/one") if not refused else None
    return refused


@pytest.mark.parametrize("to_file", [False, True])
@pytest.mark.parametrize("path", [*DEEP, *HIDDEN])
def test_nothing_is_written_listed_or_deleted_through_a_link(store, outside, path, to_file):
    before = state(outside)
    plant(store, path, outside / "one" if to_file else outside)
    refused = tried(store, path)
    assert state(outside) == before
    assert refused
    named = [error for error in refused.values() if f"{store.uri}/{path}: a link, " in error]
    assert len(named) == len(refused) or path in HIDDEN, refused


@pytest.mark.parametrize("path", HIDDEN)
def test_a_workspace_whose_lock_or_temporary_folder_is_a_link_is_not_taken(store, outside, path):
    before = state(outside)
    plant(store, path, outside)
    with pytest.raises(StorageError, match=f"{path}: a link"), store.lock("me"):
        store.write("nights/n/a", b"1")
    assert state(outside) == before


def test_a_lock_that_is_another_name_of_a_file_is_not_emptied(store, outside):
    os.link(outside / "one", store.root / ".lock")
    with pytest.raises(StorageError, match=r"\.lock: a link"), store.lock("me"):
        pass
    assert (outside / "one").read_bytes() == b"keep me"


def test_a_link_below_a_folder_that_is_deleted_goes_and_what_it_leads_to_stays(store, outside):
    before = state(outside)
    store.write("nights/n/work/a", b"1")
    plant(store, "nights/n/work/b", outside)
    store.delete_tree("nights/n")
    assert not (store.root / "nights" / "n").exists()
    assert state(outside) == before


def test_a_folder_that_becomes_a_link_between_the_check_and_the_write_is_refused(store, outside, monkeypatch):
    before, mkdir, night = state(outside), os.mkdir, store.root / "nights" / "n"
    store.write("nights/n/a", b"1")

    def exchanged(name, *args, **kwargs):
        if name == "work":
            night.rename(night.with_name("old"))
            night.symlink_to(outside)
        mkdir(name, *args, **kwargs)

    monkeypatch.setattr(os, "mkdir", exchanged)
    # The folder that was opened is written to, wherever it is now.
    store.write("nights/n/work/a", b"2")
    monkeypatch.undo()
    assert (store.root / "nights" / "old" / "work" / "a").read_bytes() == b"2"
    with pytest.raises(StorageError, match="nights/n: a link"):
        store.write("nights/n/work/a", b"3")
    assert state(outside) == before


@pytest.fixture
def elsewhere(store, tmp_path):
    """A folder on another disk, so to speak, that the owner has put the models on."""
    folder = tmp_path / "第二块盘"
    folder.mkdir()
    plant(store, "models", folder)
    return folder


def test_a_folder_of_the_first_level_may_be_a_link_on_another_disk(store, elsewhere, monkeypatch):
    link, replace, made = os.link, os.replace, []

    def across(give_name):
        def named(source, target, *, src_dir_fd, dst_dir_fd):
            within = [Path(f"/proc/self/fd/{folder}").resolve() for folder in (src_dir_fd, dst_dir_fd)]
            if len({elsewhere in path.parents or path == elsewhere for path in within}) > 1:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            made.append(within[0])
            give_name(source, target, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        return named

    monkeypatch.setattr(os, "link", across(link))
    monkeypatch.setattr(os, "replace", across(replace))
    for _ in range(2):
        store.write("models/m/manifest.json", b"1")
    assert store.create("models/m/README.md", "说明".encode())
    assert not store.create("models/m/README.md", b"2")
    assert store.swap("models/champion.json", b"3", "")
    store.write("nights/n/a", b"4")
    assert set(made) == {elsewhere / ".tmp", store.root / ".tmp"}
    assert store.list() == ["models/champion.json", "models/m/README.md", "models/m/manifest.json", "nights/n/a"]
    assert store.size("models") == 8
    (elsewhere / ".tmp" / "left-by-a-kill").write_bytes(b"half")
    with store.lock("me"):
        assert not list((elsewhere / ".tmp").iterdir())
    store.delete_tree("models/m")
    assert store.list("models") == ["models/champion.json"]


SHARED = Path("/dev/shm")


@pytest.mark.skipif(not SHARED.is_dir(), reason="this machine has no file system in memory")
def test_files_reach_a_real_second_file_system(store):
    with tempfile.TemporaryDirectory(dir=SHARED) as folder:
        assert Path(folder).stat().st_dev != store.root.stat().st_dev
        plant(store, "models", folder)
        store.write("models/m/a", "权重".encode())
        assert not store.create("models/m/a", b"2")
        assert store.read("models/m/a").decode() == "权重"
        assert [path.name for path in Path(folder).rglob("*") if path.is_file()] == ["a"]


def test_verify_walks_a_folder_that_lies_elsewhere(store, elsewhere):
    entry = FileEntry("models/m/weights", sha256(b"weights"), 7)
    store.write(entry.path, b"weightz")
    manifest = Manifest("train", "f", (entry,), {}, {"night": "n", "started_from": ""})
    store.write("models/m/manifest.json", json_bytes(manifest))
    files, bad = verify(Workspace(store))
    assert (files, list(bad)) == (1, ["models/m/weights"])


@pytest.mark.parametrize("path", ["nights/n", "models/m"])
def test_verify_refuses_a_link_instead_of_finding_nothing(store, outside, path):
    plant(store, path, outside)
    with pytest.raises(StorageError, match=f"{path}: a link"):
        verify(Workspace(store))


@pytest.mark.parametrize("target", ["不在", "别处/one"])
def test_a_folder_whose_disk_is_not_there_is_no_empty_folder(store, outside, target):
    plant(store, "models", outside.parent / target)
    for run in (
        store.list,
        store.size,
        lambda: store.exists("models/champion.json"),
        lambda: store.write("models/a", b""),
    ):
        with pytest.raises(StorageError, match="models: a link that leads to no folder"):
            run()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a link to someone else")
def test_a_link_of_the_first_level_that_another_account_made_is_refused(store, elsewhere):
    os.chown(store.root / "models", 4242, -1, follow_symlinks=False)
    with pytest.raises(StorageError, match="models: a link"):
        store.write("models/m/a", b"1")
    assert not list(elsewhere.iterdir())


def test_a_link_that_is_exchanged_while_it_is_opened_is_refused(store, elsewhere, outside, monkeypatch):
    link, opened = store.root / "models", os.open

    def exchanged(path, flags, *args, **kwargs):
        if path == "models":
            link.unlink()
            link.symlink_to(outside)
        return opened(path, flags, *args, **kwargs)

    monkeypatch.setattr(os, "open", exchanged)
    with pytest.raises(StorageError, match="models: a link"):
        store.write("models/one", b"1")
    assert (outside / "one").read_bytes() == b"keep me"


def test_a_pipe_in_a_workspace_is_not_waited_for(store):
    (store.root / "reports").mkdir()
    os.mkfifo(store.root / "reports" / "manifest.json")
    with pytest.raises(StorageError, match="cannot be read"):
        store.read("reports/manifest.json")


def test_links_in_folders_that_are_not_the_workspaces_are_passed_over(store, outside):
    """Whoever keeps a project and its workspace in one folder has links in it."""
    plant(store, "raw/从别处", outside)
    plant(store, ".venv/bin/python", outside / "one")
    store.write("nights/n/a", b"1")
    assert store.list() == ["nights/n/a"]


def test_every_path_of_the_layout_lies_in_a_folder_of_the_first_level():
    made = [place("x").path for place in (layout.night, layout.model, layout.tuned, layout.report, layout.pairs)]
    made += [layout.scratch(layout.night("x")), layout.noted("x")]
    assert {layout.folders_of(path)[0] for path in (*layout.POINTERS, *made)} == {*layout.ROOTS}
