"""Damaged files of nights and reports come back byte for byte, or nothing changes; a kill in between loses nothing."""

import hashlib
import json
import random
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.compute as pc
import pytest
from steps import run_steps

from slimpajama.cli import run
from slimpajama.core.config import Config, load_config
from slimpajama.core.errors import LockedError, StorageError
from slimpajama.corpus import index
from slimpajama.corpus.pipeline import prepare
from slimpajama.ops import repair as module
from slimpajama.ops.repair import repair
from slimpajama.ops.report.stage import write_report
from slimpajama.workspace.index import open_index
from slimpajama.workspace.layout import SCRATCH
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import json_bytes, load_manifest
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace, open_store

ZH = "研究 图书馆 整理 一批 旧报纸 天气 数据 结果 令人 满意 今年 春天 老师 检查 古代 地图 昨天 下午 城市 河流".split()
EN = "the model reads data and learns today while weather stays fine over old maps near a quiet town river".split()


def text(seed):
    """Return a text that only its seed has: Chinese for even ones, English for odd ones."""
    draw = random.Random(seed)
    words = [draw.choice((ZH, EN)[seed % 2]) + draw.choice(["", f"{draw.randrange(999)}"]) for _ in range(60)]
    return "，".join(words) + "。" if seed % 2 == 0 else " ".join(words) + "."


def write_lines(path, texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")


def config(folder):
    return load_config(
        None,
        [
            f"workspace={folder / 'workspace'}",
            f"run.source_root={folder}",
            "run.workers=2",
            'ingest.sources=[{name="web", uri="raw/*.jsonl"}, {name="later", uri="later/*.txt"}]',
            'pairs.sources=[{name="pairs", uri="pairs/*.jsonl", task="translation"}]',
            "pairs.test_share=0.3",
            "clean.min_chars=50",
            "clean.min_chars_han=30",
            "tokenizer.vocab_size=400",
            "ingest.part_mb=0.02",
        ],
    )


@pytest.fixture(scope="session")
def two_real_nights(tmp_path_factory):
    """Raw files in two languages and the nights that were made of them; no test may change them: use `folder`."""
    folder = tmp_path_factory.mktemp("repair")
    cfg = config(folder)
    pairs = [{"source": text(9001 + 2 * k), "target": text(9000 + 2 * k)} for k in range(20)]
    (folder / "pairs").mkdir()
    (folder / "pairs" / "p.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs), encoding="utf-8")
    for number, night in enumerate(("n1", "n2")):
        own = [text(100 * number + seed) for seed in range(60)]
        write_lines(
            folder / "raw" / f"{night}-a.jsonl", [*own, own[3], own[4] + "（转载）", "太短", pairs[0]["source"]]
        )
        write_lines(folder / "raw" / f"{night}-b.jsonl", [text(seed) for seed in range(40, 50)])
        if number:
            # A source that had no file the first time.
            write_lines(folder / "later" / "x.txt", [text(777)])
        store = open_store(cfg.workspace)
        Nights(store).publish(night, list(run_steps(Workspace(store), cfg, night)), cfg)
        write_report(Workspace(store), night)
    return folder


@pytest.fixture
def folder(two_real_nights, tmp_path):
    return shutil.copytree(two_real_nights, tmp_path / "copy")


@pytest.fixture
def cfg(folder) -> Config:
    """What the command line gives for the whole of a damaged workspace: of the nights' settings it needs nothing."""
    return replace(load_config(None), workspace=str(folder / "workspace"), run=config(folder).run)


@pytest.fixture
def store(cfg):
    return open_store(cfg.workspace)


def contents(store):
    """Return the sha256 of every file of a workspace, and of what else its folder holds."""
    files = [path for path in Path(store.uri).rglob("*") if path.is_file() and not path.name.startswith(".lock")]
    return {str(path.relative_to(store.uri)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


def flip(store, path):
    data = bytearray(store.read(path))
    data[len(data) // 2] ^= 1
    store.write(path, bytes(data))


def listed(store, night):
    return [entry.path for entry in load_manifest(store, f"nights/{night}/manifest.json").files]


def one_of_each(paths):
    """Return a path of those that differ in the number of a part or a shard's hash only."""
    return sorted({re.sub(r"part-[0-9-]+|[0-9a-f]{16}", "", path): path for path in paths}.values())


def test_every_kind_of_file_comes_back_byte_for_byte(store, cfg):
    before = contents(store)
    damaged = one_of_each(listed(store, "n1")) + one_of_each(listed(store, "n2"))
    kinds = {path.split("/")[2] for path in damaged}
    assert {"documents", "removed", "minhash", "bands", "texts", "tokenizer", "shards", "README.md"} <= kinds
    assert {"ingest", "clean", "dedup", "decontaminate"} <= {
        path.split("/")[3].split("-")[0] for path in damaged if "/removed/" in path
    }
    for number, path in enumerate(damaged):
        if number % 3 == 0:
            flip(store, path)
        elif number % 3 == 1:
            store.write(path, store.read(path)[:-7])
        else:
            store.delete(path)
    _, repaired, bad = repair(Workspace(store), cfg)
    assert bad == {}
    assert sorted(repaired) == sorted(damaged)
    assert contents(store) == before


def test_two_files_that_changed_places_go_back(store, cfg):
    before = contents(store)
    first, second = [path for path in listed(store, "n1") if "/texts/" in path][:2]
    one, other = store.read(first), store.read(second)
    store.write(first, other)
    store.write(second, one)
    assert repair(Workspace(store), cfg)[1] == [first, second]
    assert contents(store) == before


def test_a_whole_workspace_is_left_alone(store, cfg, monkeypatch):
    before = contents(store)
    monkeypatch.setattr(module, "prepare", None)
    files, repaired, bad = repair(Workspace(store), cfg)
    assert (files > 20, repaired, bad) == (True, [], {})
    assert contents(store) == before


def test_no_more_stages_run_than_the_file_needs(store, cfg, monkeypatch):
    names = []

    def watched(*arguments, **options):
        for manifest in prepare(*arguments, **options):
            names.append(manifest.name)
            yield manifest

    monkeypatch.setattr(module, "prepare", watched)
    flip(store, next(path for path in listed(store, "n1") if "/removed/ingest-" in path))
    assert repair(Workspace(store), cfg)[2] == {}
    assert names == ["ingest"]


def test_a_report_is_rendered_again_also_after_the_night_that_it_shows(store, cfg):
    before = contents(store)
    damaged = ["nights/n2/README.md", "reports/n1/report.html", "reports/n2/report.json"]
    shown = next(path for path in listed(store, "n2") if "/documents/" in path)
    for path in (*damaged, shown):
        flip(store, path)
    _, repaired, bad = repair(Workspace(store), cfg)
    assert bad == {}
    assert sorted(repaired) == sorted([*damaged, shown])
    assert contents(store) == before


@pytest.mark.parametrize("change", ["edited", "gone"])
def test_raw_files_that_are_not_what_they_were_change_nothing(store, cfg, folder, change):
    shard = next(path for path in listed(store, "n1") if "/shards/" in path)
    flip(store, shard)
    before = contents(store)
    raw = folder / "raw" / "n1-a.jsonl"
    write_lines(raw, [text(5)]) if change == "edited" else raw.unlink()
    _, repaired, bad = repair(Workspace(store), cfg)
    assert repaired == []
    assert str(bad[shard]).startswith(f"{shard}: cannot be made again: raw/n1-a.jsonl: 1 of 2 raw files are gone or")
    assert "restore it from a backup" in str(bad[shard])
    assert contents(store) == before


def test_a_night_is_not_repaired_against_a_damaged_one(store, cfg, folder):
    keys = next(path for path in listed(store, "n1") if "/bands/" in path)
    flip(store, keys)
    shard = next(path for path in listed(store, "n2") if "/shards/" in path)
    flip(store, shard)
    (folder / "raw" / "n1-a.jsonl").unlink()
    before = contents(store)
    _, repaired, bad = repair(Workspace(store), cfg)
    assert repaired == []
    assert f"{keys}: an earlier night is damaged" in str(bad[shard])
    assert contents(store) == before


def test_other_versions_are_named_and_what_they_make_is_not_put_in_place(store, cfg, monkeypatch):
    path = next(path for path in listed(store, "n1") if "/documents/" in path)
    flip(store, path)
    before = contents(store)
    monkeypatch.setattr("slimpajama.corpus.clean.stage.importlib.metadata.version", lambda name: "99.9")
    monkeypatch.setattr("slimpajama.corpus.clean.stage.rewrite", lambda texts, cfg: (pc.utf8_upper(texts), {}))
    _, repaired, bad = repair(Workspace(store), cfg)
    assert repaired == []
    assert "clean of cld2 99.9 (then" in str(bad[path])
    assert contents(store) == before


def test_settings_of_another_version_are_refused(store, cfg):
    path = "nights/n2/manifest.json"
    manifest = json.loads(store.read(path))
    manifest["about"]["settings"]["clean"]["from_the_future"] = 1
    store.write(path, json_bytes(manifest))
    store.delete("nights/n2/README.md")
    before = contents(store)
    _, _, bad = repair(Workspace(store), cfg)
    assert "clean.from_the_future: unknown setting" in str(bad["nights/n2/README.md"])
    assert contents(store) == before


def test_a_manifest_that_says_too_little_is_refused(store, cfg):
    path = "nights/n2/manifest.json"
    manifest = json.loads(store.read(path))
    del manifest["about"]["stages"]["ingest"]["inputs"]
    store.write(path, json_bytes(manifest))
    store.delete("nights/n2/README.md")
    _, _, bad = repair(Workspace(store), cfg)
    assert "its manifest does not say how it was made: expected 'inputs'" in str(bad["nights/n2/README.md"])


def test_a_damaged_manifest_is_restored_by_nobody(store, cfg):
    store.write("nights/n2/manifest.json", b"{")
    before = contents(store)
    _, repaired, bad = repair(Workspace(store), cfg)
    assert repaired == []
    assert "cannot be rebuilt from itself" in str(bad["nights/n2/manifest.json"])
    assert contents(store) == before


class Killed(BaseException):
    """Ends a process, as far as a test can tell."""


@pytest.mark.parametrize(("where", "writes"), [("scratch", 0), ("scratch", 5), ("scratch", 40), ("place", 1)])
def test_a_repair_that_is_killed_is_finished_by_the_next(store, cfg, monkeypatch, where, writes):
    before = contents(store)
    damaged = [path for path in listed(store, "n1") if "/shards/" in path or "/documents/" in path]
    for path in damaged:
        flip(store, path)
    write, left = LocalStore.write, iter(range(writes))

    def dies(self, path, data):
        if (self.uri == store.uri) == (where == "place") and next(left, None) is None:
            raise Killed
        write(self, path, data)

    with monkeypatch.context() as patch:
        patch.setattr(LocalStore, "write", dies)
        with pytest.raises(Killed):
            repair(Workspace(store), cfg)
    assert bool(store.list(SCRATCH)) == ((where, writes) != ("scratch", 0))
    _, repaired, bad = repair(Workspace(store), cfg)
    assert bad == {}
    assert repaired == damaged[writes:] if where == "place" else damaged
    assert contents(store) == before


def test_what_a_broken_off_repair_left_goes_when_nothing_is_damaged_any_more(store, cfg):
    before = contents(store)
    store.write(f"{SCRATCH}/nights/n1/x", b"left")
    assert repair(Workspace(store), cfg)[1:] == ([], {})
    assert contents(store) == before


def test_a_run_that_holds_the_workspace_is_waited_for(store, cfg, monkeypatch):
    def held(self, owner):
        raise LockedError("another run holds the workspace", where=self.uri)

    monkeypatch.setattr(LocalStore, "lock", held)
    with pytest.raises(LockedError):
        repair(Workspace(store), cfg)


def test_the_command_repairs_and_says_what_it_did(store, folder, capsys):
    path = one_of_each(listed(store, "n1"))[0]
    flip(store, path)
    command = ["verify", "--workspace", store.uri, "--set", f"run.source_root={folder}"]
    assert run([*command, "--json"]) == 1
    assert list(json.loads(capsys.readouterr().out)["bad"]) == [path]
    assert run([*command, "--repair", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["repaired"] == [path]
    assert run(command) == 0


@pytest.mark.parametrize("damage", ["part", "missing", "manifest", "merged", "no manifest"])
def test_a_damaged_index_is_named_and_made_again_byte_for_byte(store, cfg, monkeypatch, damage):
    monkeypatch.setattr(index, "LARGER", 10)
    index.index_nights(Workspace(store), cfg)
    before = contents(store)
    paths = [path for path in before if "/index/" in path and not path.startswith("published/")]
    wanted = {"manifest": "n1/index/manifest.json", "no manifest": "n1/index/manifest.json", "merged": "merged/0"}
    path = next(path for path in paths if wanted.get(damage, "n1/index/0") in path)
    if damage in ("missing", "no manifest"):
        store.delete(path)
    else:
        flip(store, path)
    if damage != "no manifest":
        # Never another answer: an error that names the file.
        with pytest.raises(StorageError, match=re.escape(path)):
            [[part.arrays, part.documents] for part in open_index(Workspace(store), ["n1"])[0].parts] and [
                [part.arrays, part.documents] for part in open_index(Workspace(store), ["n1", "n2"])[0].parts
            ]
    _, repaired, bad = repair(Workspace(store), cfg)
    assert (repaired, bad) == ([path], {})
    assert contents(store) == before


def test_an_index_of_damaged_shards_stays_as_it_is_until_they_are_whole(store, cfg, folder):
    index.index_nights(Workspace(store), cfg)
    shard = next(path for path in store.list("nights/n1/shards/train"))
    part = next(path for path in store.list("nights/n1/index"))
    flip(store, shard)
    flip(store, part)
    shutil.rmtree(folder / "raw")
    _, repaired, bad = repair(Workspace(store), cfg)
    assert repaired == []
    assert {shard, part} <= set(bad)
