"""A model that is exported with what it looks up: the same answers elsewhere, nothing unchecked, nothing unsaid."""

import json
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from slimpajama.cli import run
from slimpajama.core.errors import InputError, ModelError, StorageError
from slimpajama.corpus import index
from slimpajama.corpus.index import index_nights
from slimpajama.model.evaluate.score import score_text
from slimpajama.model.evaluate.stage import evaluate
from slimpajama.model.loading import is_exported, load_exported, load_model
from slimpajama.model.memory.model import RememberingModel
from slimpajama.model.memory.opening import LISTING
from slimpajama.model.memory.stage import remember
from slimpajama.ops.export import export_model
from slimpajama.workspace import layout
from slimpajama.workspace.index import parts_of
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import json_bytes, load_manifest
from slimpajama.workspace.mapped import array_bytes
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.store import sha256

TEXTS = ["我们今天学习语言模型，数据很好。𠮷野家", "The model reads data today. e\u0301\r\n"]
FIRST, LAST = "2026-01-01", "2026-01-02"
ARRAY = re.compile(r"memory/\d{5}\.(ids|order|first)\.npy")


@pytest.fixture(scope="module")
def made(one_model, config, tmp_path_factory):
    """A workspace whose champion remembers two nights, in two parts, and its export; no test may change them."""
    root = tmp_path_factory.mktemp("remembering")
    workspace = Workspace(LocalStore(str(shutil.copytree(one_model[0], root / "workspace"))))
    with pytest.MonkeyPatch.context() as patch:
        # So large that they are not merged.
        patch.setattr(index, "PART_TOKENS", 15_000)
        index_nights(workspace, config)
    assert remember(workspace, config, one_model[1], LAST)
    workspace.models.promote(one_model[1], "the first")
    return root, export_model(workspace, root / "out")


@pytest.fixture
def remembering(made, tmp_path):
    """A workspace of one's own, and its champion."""
    workspace = Workspace(LocalStore(str(shutil.copytree(made[0] / "workspace", tmp_path / "workspace"))))
    return workspace, workspace.models.require_champion()


@pytest.fixture
def exported(made, tmp_path):
    """The workspace, a folder of one's own with its champion, and what `export_model` said."""
    workspace, folder = Workspace(LocalStore(str(made[0] / "workspace"))), tmp_path / "out"
    shutil.copytree(made[0] / "out", folder)
    return workspace, made[1]["model"], folder, made[1]


def corpus_texts(workspace, night):
    """Return texts of both languages that the memory knows."""
    (entry,) = workspace.nights.load(night).entries(layout.night(night).split("train"))
    rows = read_table(workspace.store, entry, ["lang", "words"]).to_pylist()
    return [next("".join(row["words"]) for row in rows if row["lang"] == lang) for lang in ("zh", "en")]


@pytest.mark.parametrize("memory", [True, False])
def test_it_gives_the_very_numbers_of_the_workspace_in_both_languages(exported, memory):
    workspace, model, folder, _ = exported
    there, here = load_model(workspace, memory=memory), load_exported(folder, memory)
    assert isinstance(here.model, RememberingModel) == memory
    assert (here.id, here.memory, here.memory_digest) == (model, there.memory, there.memory_digest)
    if memory:
        assert len(here.model.memory.corpus.parts) == 2
    for text in [*TEXTS, *corpus_texts(workspace, LAST)]:
        assert score_text(here.model, here.tokenizer, text) == score_text(there.model, there.tokenizer, text)


@pytest.mark.parametrize("alone", [[], ["--no-memory"]])
def test_the_commands_answer_alike_in_the_workspace_and_by_the_folder(exported, tmp_path, capsys, alone):
    workspace, _, folder, _ = exported
    (tmp_path / "text").write_text("".join(corpus_texts(workspace, FIRST)), encoding="utf-8")
    asked = [["score", "--text", str(tmp_path / "text")], ["generate", "--prompt", "今天", "--seed", "2"]]
    found = []
    for where in (["--workspace", workspace.uri], ["--model", str(folder)]):
        for command in asked:
            assert run([*command, "--json", *alone, *where]) == 0
            found.append(json.loads(capsys.readouterr().out))
    assert found[:2] == found[2:]
    assert ("network_bits_per_byte" in found[0]) == (not alone)


def test_every_file_of_the_memory_is_listed_and_nothing_tells_of_documents(exported):
    workspace, _, folder, found = exported
    assert found["files"] == sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    listing = json.loads((folder / LISTING).read_bytes())
    assert json.loads((folder / "config.json").read_text())["sha256"][LISTING] == sha256(
        (folder / LISTING).read_bytes()
    )
    files = {entry["path"]: (folder / entry["path"]).read_bytes() for entry in listing["files"]}
    assert {*files} == {name for name in found["files"] if name.startswith("memory/")} - {LISTING}
    for entry in listing["files"]:
        assert (entry["sha256"], entry["bytes"]) == (sha256(files[entry["path"]]), len(files[entry["path"]]))
        assert ARRAY.fullmatch(entry["path"]) or entry["path"] == "memory/weights.json"
    parts = [part for night in (FIRST, LAST) for part in parts_in(workspace, night)]
    ids = {one for part in parts for one in part.documents["id"].to_pylist()}
    assert len(ids) == 120
    assert not [name for name, data in files.items() if any(one.encode() in data for one in ids)]
    assert found["memory"]["tokens"] == sum(len(part.arrays[0]) for part in parts)
    assert found["memory"]["bytes"] == sum(map(len, files.values()))


def parts_in(workspace, night):
    return parts_of(workspace.store, load_manifest(workspace.store, layout.night(night).index.manifest))


def test_the_same_memory_gives_the_same_bytes(exported, tmp_path):
    workspace, _, folder, found = exported
    assert export_model(workspace, tmp_path / "again")["files"] == found["files"]
    for name in found["files"]:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_card_and_closing_line_say_that_the_text_goes_along_or_that_it_does_not(remembering, config, tmp_path, capsys):
    workspace, model = remembering
    report = evaluate(workspace, config, model, [FIRST])
    command = ["export", "--format", "hf", "--workspace", workspace.uri]
    assert run([*command, str(tmp_path / "with")]) == 0
    line, card = capsys.readouterr().out, (tmp_path / "with" / "README.md").read_text()
    tokens = json.loads((tmp_path / "with" / LISTING).read_text())["counts"]["tokens"]
    assert f"with its memory: {tokens:,} tokens of the training text (" in line
    assert "whoever gets the folder can read; --no-memory" in line
    assert "**This folder holds the training text: whoever has it can read all of it.**" in card
    # The figures are of another night's memory.
    assert f"This folder holds the memory of night {LAST}, which was not measured" in card
    both = list(report.figures["languages"].values())
    assert all(f"| {row['bits_per_byte']:.4f} | {row['network_bits_per_byte']:.4f} |" in card for row in both)
    assert run([*command, str(tmp_path / "without"), "--no-memory"]) == 0
    assert capsys.readouterr().out.endswith(f"{model}, without its memory\n")
    card = (tmp_path / "without" / "README.md").read_text()
    assert "It was exported with `--no-memory`." in card
    assert "holds the training text" not in card
    assert all(f"| {row['network_bits_per_byte']:.4f} |" in card for row in both)
    assert not (tmp_path / "without" / "memory").exists()
    assert load_exported(tmp_path / "without").memory == ""


def test_a_model_without_a_memory_goes_alone_and_says_so(trained, tmp_path, capsys):
    space, model = trained
    assert run(["export", str(tmp_path / "out"), "--model", model, "--workspace", space.store.uri]) == 0
    assert capsys.readouterr().out.endswith("which has no memory: the network alone\n")
    assert "The model has no memory" in (tmp_path / "out" / "README.md").read_text()
    assert not (tmp_path / "out" / "memory").exists()


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def of_other_documents(path):
    found = json.loads(path.read_bytes())
    found["about"]["shards"] = ["0" * 64]
    path.write_bytes(json_bytes({name: found[name] for name in found if name != "checksum"}))


@pytest.mark.parametrize(
    ("files", "change", "error", "said"),
    [
        ("nights/2026-01-02/index/*.ids.npy", flip, StorageError, "not what its manifest says.*verify"),
        ("nights/2026-01-01/index/*.order.npy", lambda path: path.unlink(), StorageError, "cannot be read.*verify"),
        ("nights/2026-01-02/index/manifest.json", lambda path: path.unlink(), InputError, "no index.*prepare"),
        ("nights/2026-01-02/index/manifest.json", of_other_documents, InputError, "no index of the doc.*prepare"),
        ("models/*/memory/*/weights.json", flip, StorageError, "not what its manifest says.*verify"),
    ],
)
def test_a_memory_that_is_not_whole_is_not_exported_and_the_error_says_what_to_run(
    remembering, tmp_path, files, change, error, said
):
    workspace, model = remembering
    before = sorted(tmp_path.iterdir())
    change(sorted(workspace.store.root.glob(files))[-1])
    with pytest.raises(error, match=rf"(?s){said}.*--no-memory"):
        export_model(workspace, tmp_path / "out")
    assert sorted(tmp_path.iterdir()) == before
    export_model(workspace, tmp_path / "out", memory=False)
    assert load_exported(tmp_path / "out").id == model


def test_every_damaged_or_missing_file_of_an_exported_memory_is_named(exported):
    _, model, folder, found = exported
    for name in (name for name in found["files"] if name.startswith("memory/")):
        data = (folder / name).read_bytes()
        for change in (flip, lambda path: path.unlink()):
            change(folder / name)
            with pytest.raises(ModelError, match=rf"{name}.*[Ee]xport.* again"):
                load_exported(folder)
            assert load_exported(folder, memory=False).id == model
            (folder / name).write_bytes(data)
    load_exported(folder)


def other_dtype(files):
    return {"00000.ids.npy": array_bytes(array_of(files, "ids").astype(np.int32))}


def array_of(files, kind):
    return np.load(files / f"00000.{kind}.npy")


def changed(kind, change):
    def make(files):
        array = array_of(files, kind)
        return {f"00000.{kind}.npy": array_bytes(change(array))}

    return make


def exchanged(array):
    array[[10, -10]] = array[[-10, 10]]
    return array


def with_first(value):
    def change(array):
        array[0] = value
        return array

    return change


HOSTILE = {
    "a position out of bounds": changed("order", with_first(2**31 - 1)),
    "a position before the stream": changed("order", with_first(-5)),
    "a position twice": changed("order", lambda array: with_first(array[1])(array)),
    "suffixes in another order": changed("order", exchanged),
    "an id that the vocabulary does not have": changed("ids", lambda array: np.append(array[:-1], array[:1] + 60_000)),
    "another document token": changed("ids", lambda array: with_first(array[1])(array)),
    "fewer positions than ids": changed("order", lambda array: array[:-1]),
    "another number of first ones": changed("first", lambda array: array + 1),
    "a shorter vocabulary": changed("first", lambda array: array[:-1]),
    "ids of another type": other_dtype,
    "no ids": changed("ids", lambda array: array[:0]),
    "an empty file": lambda files: {"00000.order.npy": b""},
    "a head that cannot be read": lambda files: {"00000.order.npy": b"\x93NUMPY\x01\x00\x03\x00(((" + b" " * 200},
    "a pickle": lambda files: {"00000.ids.npy": b"\x80\x04\x95\x05" + b"." * 200},
    "weights that are none": lambda files: {"weights.json": b"{}"},
}
NO_ARRAY = "not what its manifest says: expected an array of integers"
UNREADABLE = {
    "no ids": "not the listing of a memory",
    "an empty file": NO_ARRAY,
    "a head that cannot be read": NO_ARRAY,
    "a pickle": NO_ARRAY,
    "weights that are none": "not the weights of a memory",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_memory_that_somebody_made_up_is_refused_before_anything_follows_it(exported, name):
    _, _, folder, _ = exported
    relist(folder, HOSTILE[name](folder / "memory"))
    said = UNREADABLE.get(name, "not an index of the model's tokens")
    with pytest.raises(ModelError, match=said):
        load_exported(folder)


def relist(folder, files, change=lambda listing: listing):
    """Change files of a memory, as who can make every digest anew."""
    for name, data in files.items():
        (folder / "memory" / name).write_bytes(data)
    listing = json.loads((folder / LISTING).read_bytes())
    for entry in listing["files"]:
        data = (folder / entry["path"]).read_bytes()
        entry |= {"sha256": sha256(data), "bytes": len(data)}
    data = json.dumps(change(listing)).encode()
    (folder / LISTING).write_bytes(data)
    config = json.loads((folder / "config.json").read_bytes())
    config["sha256"][LISTING] = sha256(data)
    (folder / "config.json").write_text(json.dumps(config))


def test_a_memory_that_is_listed_anew_as_it_is_opens(exported):
    """So that the refusals above are of what was changed."""
    _, _, folder, _ = exported
    relist(folder, {"00000.ids.npy": array_bytes(array_of(folder / "memory", "ids"))})
    assert load_exported(folder).memory == LAST


@pytest.mark.parametrize(
    "change",
    [
        lambda listing: listing | {"files": []},
        lambda listing: listing | {"files": [e for e in listing["files"] if not e["path"].endswith(".first.npy")]},
        lambda listing: listing | {"files": [e for e in listing["files"] if not e["path"].endswith(".npy")]},
        lambda listing: listing | {"files": [e | {"path": f"../{e['path']}"} for e in listing["files"]]},
        lambda listing: listing | {"about": {}},
        lambda listing: listing | {"about": {"night": "n", "nights": 3}},
        lambda listing: {},
        lambda listing: [],
    ],
)
def test_a_listing_of_another_kind_is_refused(exported, change):
    _, _, folder, _ = exported
    relist(folder, {}, change)
    with pytest.raises(ModelError, match="--no-memory"):
        load_exported(folder)


def test_a_memory_of_another_tokenizer_is_refused(exported):
    _, _, folder, _ = exported
    ids = array_of(folder / "memory", "ids")
    # A stream of its own is in order, but its document token is not the model's.
    made = index.suffixes_of(ids + 1, len(array_of(folder / "memory", "first")), int(ids[0]) + 1)
    relist(folder, {f"00000.{kind}.npy": array_bytes(made[n]) for n, kind in enumerate(("ids", "order", "first"))})
    with pytest.raises(ModelError, match="not an index of the model's tokens"):
        load_exported(folder)


def test_a_kill_in_the_middle_leaves_nothing_that_looks_finished(remembering, tmp_path):
    workspace, _ = remembering
    dying = (
        "import os, sys; from slimpajama.ops import export; from slimpajama.workspace.open import open_workspace;"
        "copied = []; real = export._copy;"
        "export._copy = lambda *given: os._exit(9) if len(copied) == 3 else (real(*given), copied.append(1));"
        "export.export_model(open_workspace(sys.argv[1]), export.Path(sys.argv[2]))"
    )
    command = [sys.executable, "-c", dying, workspace.uri, str(tmp_path / "out")]
    assert subprocess.run(command, check=False).returncode == 9
    assert not (tmp_path / "out").exists()
    (left,) = tmp_path.glob(".out.*.part")
    assert len(list(left.rglob("*.*"))) == 3
    assert not is_exported(str(left))
    export_model(workspace, tmp_path / "out")
    assert load_exported(tmp_path / "out").memory == LAST
