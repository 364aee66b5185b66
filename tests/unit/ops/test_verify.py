"""The check of a whole workspace: files, manifests, the list of nights, pointers."""

import json

import pytest

from slimpajama.cli import run
from slimpajama.ops.verify import verify
from slimpajama.workspace.layout import SCRATCH
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import load_manifest
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.registry import Models


def flip(store, path, place=-9):
    data = bytearray(store.read(path))
    data[place] ^= 1
    store.write(path, bytes(data))


@pytest.fixture(autouse=True)
def at_once(monkeypatch):
    """Nothing runs beside these checks."""
    monkeypatch.setattr("slimpajama.ops.verify.PAUSES_S", ())


@pytest.fixture
def store(trained):
    """Two nights and a model that is the champion."""
    Models(trained[0].store).promote(trained[1], "the first")
    return trained[0].store


@pytest.fixture
def files(store):
    """The paths of the first night's files."""
    return [entry.path for entry in load_manifest(store, "nights/2026-01-01/manifest.json").files]


def test_a_whole_workspace_is_whole(store):
    files, bad = verify(Workspace(store))
    assert files > 5
    assert bad == {}


def test_what_is_wrong_with_a_file_is_said_with_what_next(store, files):
    changed, short, gone, *_ = files
    flip(store, changed)
    store.write(short, store.read(short)[:-5])
    store.delete(gone)
    _, bad = verify(Workspace(store), threads=3)
    assert list(bad) == sorted([changed, short, gone])
    assert "not what its manifest says: expected sha256 " in str(bad[changed])
    assert f"expected {len(store.read(short)) + 5} bytes, found {len(store.read(short))} bytes" in str(bad[short])
    assert f"{gone}: missing. `slimpajama verify --repair`" in str(bad[gone])


def test_a_large_file_is_not_read_at_once(store, files, monkeypatch):
    read = LocalStore.read
    monkeypatch.setattr(
        LocalStore,
        "read",
        lambda self, path, *range_: pytest.fail(path) if path in files else read(self, path, *range_),
    )
    assert verify(Workspace(store))[1] == {}


@pytest.mark.parametrize(
    "damage", [b"", b"{", b"\xff\xfe", b"[]", b"{}", b"null", b'{"files": [{"path": 1}]}', "bytes"]
)
def test_an_unreadable_manifest_is_a_problem_and_no_crash(store, damage):
    path = "nights/2026-01-01/manifest.json"
    if damage == "bytes":
        data = json.loads(store.read(path))
        data["files"][0]["bytes"] = "many"
        damage = json.dumps(data).encode()
    store.write(path, damage)
    _, bad = verify(Workspace(store))
    assert list(bad) == [path]
    assert "cannot be rebuilt from itself" in str(bad[path])


def test_manifests_beside_a_report_count(store):
    entry = {"path": "reports/2026-01-01/samples.json", "sha256": "0" * 64, "bytes": 3, "rows": 0}
    manifest = {"name": "generate", "fingerprint": "0", "files": [entry], "counts": {}, "about": {}}
    store.write("reports/2026-01-01/samples.manifest.json", json.dumps(manifest).encode())
    _, bad = verify(Workspace(store))
    assert list(bad) == [entry["path"]]
    assert "delete reports/2026-01-01/samples.manifest.json" in str(bad[entry["path"]])


def test_the_list_of_nights_and_the_nights_must_agree(store):
    index = json.loads(store.read("nights/index.json"))
    store.write("nights/index.json", json.dumps({"nights": [index["nights"][0], "2025-05-05"]}).encode())
    _, bad = verify(Workspace(store))
    assert list(bad) == ["nights/2025-05-05/manifest.json", "nights/2026-01-02/manifest.json"]
    assert "missing" in str(bad["nights/2025-05-05/manifest.json"])
    assert "slimpajama prepare --night 2026-01-02" in str(bad["nights/2026-01-02/manifest.json"])
    store.delete("nights/index.json")
    assert "missing, and was published" in str(verify(Workspace(store))[1]["nights/index.json"])


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[]", b"null", b'{"nights": 1}'])
def test_an_unreadable_list_of_nights_is_a_problem(store, damage):
    store.write("nights/index.json", damage)
    assert list(verify(Workspace(store))[1]) == ["nights/index.json"]


def test_pointers_to_nowhere_are_named_with_what_they_name(store):
    (model,) = {path.split("/")[1] for path in store.list("models") if path.count("/") > 1}
    store.delete_tree(f"models/{model}")
    _, bad = verify(Workspace(store))
    assert f"delete published/models/{model}/manifest.json, too" in str(bad[f"models/{model}/manifest.json"])
    store.delete_tree(f"published/models/{model}")
    store.write("tuned/current.json", json.dumps({"tasks": {"translation": "夜-tuned"}, "history": []}).encode())
    _, bad = verify(Workspace(store))
    assert list(bad) == ["models/champion.json", "tuned/current.json"]
    assert f"names what is not there: found {model}" in str(bad["models/champion.json"])
    assert "夜-tuned" in str(bad["tuned/current.json"])


@pytest.mark.parametrize("damage", [b"", b"\xff", b"[]", b"null", b'{"history": [1], "tasks": 2}'])
@pytest.mark.parametrize("path", ["models/champion.json", "tuned/current.json"])
def test_an_unreadable_pointer_is_a_problem(store, path, damage):
    store.write(path, damage)
    assert list(verify(Workspace(store))[1]) == [path]


def test_what_lies_in_a_work_folder_or_a_broken_off_repair_does_not_count(store):
    for path in ("nights/n/work/clean/manifest.json", f"{SCRATCH}/nights/n/pairs/x/manifest.json"):
        store.write(path, b"{")
    assert verify(Workspace(store))[1] == {}


def test_names_out_of_a_manifest_cannot_reach_the_terminal_or_leave_the_workspace(store):
    entries = [{"path": path, "sha256": "0" * 64, "bytes": 3} for path in ("models/\x1b[31m/x", "../outside")]
    store.write(
        "models/x/manifest.json",
        json.dumps({"name": "x", "fingerprint": "0", "files": entries, "counts": {}, "about": {}}).encode(),
    )
    _, bad = verify(Workspace(store))
    assert len(bad) == 2
    assert not [text for text in map(str, bad.values()) if "\x1b" in text]


def test_the_command_ends_with_1_and_a_line_each(store, files, capsys):
    assert run(["verify", "--workspace", store.uri]) == 0
    assert capsys.readouterr().out.endswith(" files, 0 bad\n")
    store.delete(files[0])
    assert run(["verify", "--workspace", store.uri, "--json"]) == 1
    found = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert list(found["bad"]) == [files[0]]
    assert run(["verify", "--workspace", store.uri]) == 1
    line, counts = capsys.readouterr().out.splitlines()
    assert line.startswith(f"{files[0]}: missing")
    assert counts.endswith(" files, 1 bad")
