import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from steps import ingest

from slimpajama.core.config import Config, IngestConfig, RunConfig, SourceConfig, validate
from slimpajama.core.errors import InputError
from slimpajama.core.schema import RAW
from slimpajama.corpus.again import known_inputs
from slimpajama.corpus.sources import discover
from slimpajama.corpus.sources.records import document_id
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table
from slimpajama.workspace.step import Run
from slimpajama.workspace.store import Store, sha256

RECORDS = [{"text": f"第{number}篇 document {number}", "key": f"k{number}"} for number in range(300)]


@pytest.fixture
def cfg(tmp_path: Path) -> Config:
    raw = tmp_path / "raw"
    raw.mkdir()
    lines = [json.dumps(record) for record in RECORDS]
    (raw / "a.jsonl").write_text("\n".join([*lines[:200], "broken", *lines[200:]]), encoding="utf-8")
    (raw / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(lines[:5]).encode()))
    (raw / "c.txt").write_text("一个文件", encoding="utf-8")
    sources = (
        SourceConfig(name="lines", uri="raw/*.jsonl*", id_field="key"),
        SourceConfig(name="files", uri="raw/*.txt"),
        SourceConfig(name="none", uri="raw/*.csv"),
    )
    return Config(
        ingest=IngestConfig(sources=sources, part_mb=0.004), run=RunConfig(source_root=str(tmp_path), workers=2)
    )


def rows(store: Store, manifest: Manifest, prefix: str) -> list[dict[str, Any]]:
    return [row for entry in manifest.entries(prefix) for row in read_table(store, entry).to_pylist()]


def test_every_record_is_a_row_with_its_place_and_hash(cfg: Config, tmp_path: Path):
    store = LocalStore(str(tmp_path / "w"))
    manifest = ingest(Workspace(store), cfg, "n")
    found = rows(store, manifest, "nights/n/work/ingest/")
    assert [row["text"] for row in found] == [
        *(r["text"] for r in RECORDS),
        *(r["text"] for r in RECORDS[:5]),
        "一个文件",
    ]
    assert found[0]["uri"] == "raw/a.jsonl#k0"
    assert found[-1]["uri"] == "raw/c.txt#1"
    assert found[0]["sha256"] == sha256(RECORDS[0]["text"].encode())
    assert found[0]["id"] == document_id("lines", "a.jsonl#1", RECORDS[0]["text"])
    assert len({row["id"] for row in found}) == len(found)
    assert read_table(store, manifest.entries("nights/n/work/ingest/part")[0]).schema.equals(RAW)


def test_what_broke_is_on_record_with_its_place(cfg: Config, tmp_path: Path):
    store = LocalStore(str(tmp_path / "w"))
    manifest = ingest(Workspace(store), cfg, "n")
    found = {row["rule"]: row for row in rows(store, manifest, "nights/n/removed/")}
    assert set(found) == {"not-json", "no-files"}
    assert found["not-json"]["uri"] == "raw/a.jsonl#201"
    assert found["not-json"]["value"].startswith("line 201: ")
    assert found["no-files"]["uri"] == "raw/*.csv"
    assert manifest.counts == {
        "files": 3,
        "documents": {"lines": 305, "files": 1},
        "bytes": {"lines": sum(len(r["text"].encode()) for r in RECORDS + RECORDS[:5]), "files": 12},
        "removed": {"lines": {"not-json": 1}, "none": {"no-files": 1}},
        "refused": {"lines": {"raw/a.jsonl": {"not-json": 1}}, "none": {"raw/*.csv": {"no-files": 1}}},
    }


def test_a_large_file_is_cut_into_parts_and_workers_change_no_byte(cfg: Config, tmp_path: Path):
    manifests = []
    for workers in (1, 4):
        settings = replace(cfg, run=replace(cfg.run, workers=workers))
        manifests.append(ingest(Workspace(LocalStore(str(tmp_path / f"w{workers}"))), settings, "n"))
    assert len(manifests[0].paths("nights/n/work/ingest/part-00000-")) > 5
    assert manifests[0].digest == manifests[1].digest


def test_a_kill_in_the_middle_of_a_file_changes_no_byte(cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    whole = ingest(Workspace(LocalStore(str(tmp_path / "whole"))), cfg, "n")
    store = LocalStore(str(tmp_path / "killed"))
    # The plan and four parts.
    original, left = Run.commit, [5]

    def dies(*args: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(Run, "commit", dies)
    with pytest.raises(KeyboardInterrupt):
        ingest(Workspace(store), replace(cfg, run=replace(cfg.run, workers=1)), "n")
    monkeypatch.setattr(Run, "commit", original)
    assert ingest(Workspace(store), cfg, "n").digest == whole.digest


def test_a_second_night_reads_only_what_no_published_night_has_read(cfg: Config, tmp_path: Path):
    store = LocalStore(str(tmp_path / "w"))
    first = ingest(Workspace(store), cfg, "n1")
    # n1 is not published yet.
    assert ingest(Workspace(store), cfg, "n1-again").counts["files"] == 3
    Nights(store).publish("n1", [first], cfg)
    assert len(known_inputs(Nights(store).manifests())) == 3
    assert ingest(Workspace(store), cfg, "n2").counts["files"] == 0
    (tmp_path / "raw" / "d.txt").write_text("新文件", encoding="utf-8")
    third = ingest(Workspace(store), cfg, "n3")
    assert (third.counts["files"], third.counts["documents"]) == (1, {"files": 1})


def test_a_file_that_changes_while_it_is_read_is_an_error(cfg: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(discover, "current_version", lambda file: "another")
    with pytest.raises(InputError, match=r"raw/.*changed while it was read"):
        ingest(Workspace(LocalStore(str(tmp_path / "w"))), cfg, "n")


def test_an_id_depends_on_source_place_and_text_and_on_nothing_else():
    base = document_id("s", "a#1", "文")
    assert len(base) == 32
    assert base == document_id("s", "a#1", "文")
    others = {document_id("s2", "a#1", "文"), document_id("s", "a#2", "文"), document_id("s", "a#1", "书")}
    assert base not in others
    assert document_id("s", "a#1", "文") != document_id("sa", "#1", "文")  # parts are framed


def test_moving_the_corpus_changes_no_id(cfg: Config, tmp_path: Path):
    absolute = replace(cfg.ingest, sources=(replace(cfg.ingest.sources[1], uri=f"{tmp_path}/raw/*.txt"),))
    relative = replace(cfg.ingest, sources=(cfg.ingest.sources[1],))
    found = []
    for number, settings in enumerate((absolute, relative)):
        store = LocalStore(str(tmp_path / f"w{number}"))
        found.append(rows(store, ingest(Workspace(store), replace(cfg, ingest=settings), "n"), "nights/n/work/ingest/"))
    assert found[0][0]["id"] == found[1][0]["id"]


def test_a_saved_dataset_is_read_with_several_fields(tmp_path: Path):
    folder = tmp_path / "hf" / "train"
    folder.mkdir(parents=True)
    table = pa.table({"title": ["题", None], "text": ["正文", "only text"], "meta": [{"url": "u1"}, {"url": None}]})
    with pa.ipc.new_stream(str(folder / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    (folder / "state.json").write_text('{"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}')
    source = {"name": "hf", "uri": "hf/", "text_field": ["title", "text"], "id_field": "meta.url"}
    settings = validate({"ingest": {"sources": [source]}, "run": {"source_root": str(tmp_path)}})
    store = LocalStore(str(tmp_path / "w"))
    found = rows(store, ingest(Workspace(store), settings, "n"), "nights/n/work/ingest/part")
    assert [row["text"] for row in found] == ["题\n\n正文", "only text"]
    assert [row["uri"] for row in found] == [f"hf/train/data-00000-of-00001.arrow#{place}" for place in ("u1", "2")]
    assert found[0]["id"] == document_id("hf", "train/data-00000-of-00001.arrow#1", "题\n\n正文")


def test_an_own_id_is_one_printable_line_of_the_uri(tmp_path: Path):
    (tmp_path / "a.jsonl").write_text(
        '{"text": "x", "id": "a\\nb\\u001b"}\n{"text": "y", "id": ""}\n', encoding="utf-8"
    )
    sources = (SourceConfig(name="s", uri="a.jsonl", id_field="id"),)
    settings = Config(ingest=IngestConfig(sources=sources), run=RunConfig(source_root=str(tmp_path)))
    store = LocalStore(str(tmp_path / "w"))
    found = rows(store, ingest(Workspace(store), settings, "n"), "nights/n/work/ingest/part")
    assert [row["uri"] for row in found] == ["a.jsonl#a\\x0ab\\x1b", "a.jsonl#2"]


def test_what_there_is_to_say_of_files_and_documents_is_in_notes_and_no_document_is_refused_for_it(tmp_path: Path):
    zh, raw = "今天的天气很好，我们去公园里看花，然后在湖边坐了一个下午。" * 9, tmp_path / "raw"
    raw.mkdir()
    (raw / "a.txt").write_bytes(zh.encode("gb18030"))
    (raw / "b.jsonl").write_bytes(json.dumps({"text": zh}, ensure_ascii=False).encode("gbk") + b"\n")
    (raw / "c.txt").write_bytes(zh.encode() + b"\xff")
    (raw / "d.txt").write_text(f"plain {zh}", encoding="utf-8")
    sources = (SourceConfig(name="all", uri="raw/*"),)
    cfg = Config(ingest=IngestConfig(sources=sources), run=RunConfig(source_root=str(tmp_path)))
    store = LocalStore(str(tmp_path / "w"))
    manifest = ingest(Workspace(store), cfg, "n")
    documents = {row["uri"]: row["id"] for row in rows(store, manifest, "nights/n/work/ingest/")}
    told = {row["uri"]: (row["id"], row["rule"]) for row in rows(store, manifest, "nights/n/notes/")}
    assert [*documents] == ["raw/a.txt#1", "raw/b.jsonl#1", "raw/c.txt#1", "raw/d.txt#1"]
    assert told == {
        "raw/a.txt#1": (documents["raw/a.txt#1"], "detected-encoding"),
        "raw/b.jsonl": (None, "detected-encoding"),
        "raw/c.txt#1": (documents["raw/c.txt#1"], "replaced-bytes"),
    }
    assert manifest.counts["notes"] == {"all": {"detected-encoding": 2, "replaced-bytes": 1}}
    assert manifest.counts["removed"] == {}
