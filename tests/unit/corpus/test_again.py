"""Refused records are tried again: where a setting has changed, by hand, or by option; accepted ones never."""

from __future__ import annotations

import gzip
import json
import random
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from steps import ingest, run_steps

from slimpajama.core.config import Config, load_config
from slimpajama.core.errors import ConfigError
from slimpajama.corpus import ingest as ingest_module
from slimpajama.corpus.ingest import INGEST
from slimpajama.ops.explain import explain, render
from slimpajama.ops.repair import repair
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.manifest import Manifest
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace
from slimpajama.workspace.parquet import read_table

WORDS = {
    "zh": "我们 今天 学习 语言 模型 数据 北京 天气 图书馆 医生 城市 古代 地图 报纸 工程师 讨论 翻译 记录".split(),
    "en": "the model reads data and learns today weather library doctor city ancient map paper talks notes".split(),
}


def text_of(seed: int, words: int = 60) -> str:
    """Return a text in one of both languages, unlike any other."""
    lang, draw = ("zh", "en")[seed % 2], random.Random(seed)
    gap, end = ("", "。") if lang == "zh" else (" ", ". ")
    return end.join(gap.join(draw.choices(WORDS[lang], k=12)) + f"{gap}{draw.random()}" for _ in range(words // 12))


class Corpus:
    """A source of JSON lines, and a workspace that nights go into."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.raw, self.settings = folder, folder / "raw", list[str]()
        self.raw.mkdir()
        self.store = LocalStore(str(folder / "w"))
        self.space = Workspace(self.store)

    def write(self, name: str, rows: list[dict[str, Any]]) -> None:
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()
        (self.raw / name).write_bytes(gzip.compress(lines, mtime=0) if name.endswith(".gz") else lines)

    def cfg(self, *settings: str, **source: Any) -> Config:
        fields = {"name": "s", "uri": "raw/*"} | source
        shown = ", ".join(f"{key} = {json.dumps(value)}" for key, value in fields.items())
        more = [f"ingest.sources=[{{{shown}}}]", f'run.source_root="{self.folder}"', "tokenizer.vocab_size=400"]
        return load_config(None, [*more, "run.workers=2", *settings], str(self.folder / "w"))

    def night(self, name: str, *settings: str, **source: Any) -> dict[str, Any]:
        """Prepare and publish a night; return its counts by step, none where there was nothing to read."""
        cfg, made = self.cfg(*settings, **source), list[Manifest]()
        for manifest in run_steps(self.space, cfg, name):
            made.append(manifest)
            if manifest.name == "ingest" and not manifest.counts["files"]:
                self.space.nights.discard(name)
                return {}
        Nights(self.store).publish(name, made, cfg)
        return {step.name: step.counts for step in made}

    def rows(self, night: str, kind: str) -> list[dict[str, Any]]:
        manifest = self.space.nights.load(night)
        return [
            row
            for entry in manifest.entries(f"nights/{night}/{kind}/")
            for row in read_table(self.store, entry).to_pylist()
        ]

    def kept(self) -> list[str]:
        """Return the ids of all documents that are kept, of all nights."""
        return [row["id"] for night in self.space.nights.published() for row in self.rows(night, "documents")]


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus(tmp_path)


def mixed(first: int, good: int, bad: int) -> list[dict[str, Any]]:
    """Return records with the field `text`, and after every one of those, while there are some, one with `内容`."""
    rows = [{"text": text_of(first + number)} for number in range(good)]
    for number in range(bad):
        rows.insert(2 * number + 1, {"内容": text_of(first + good + number)})
    return rows


def test_what_a_wrong_field_refused_comes_in_once_it_is_right_and_nothing_else_does(corpus: Corpus):
    corpus.write("a.jsonl", mixed(0, 6, 0))
    corpus.write("b.jsonl", mixed(100, 6, 4))
    first = corpus.night("n1")
    assert first["ingest"]["refused"] == {"s": {"raw/b.jsonl": {"no-text": 4}}}
    assert corpus.night("n2") == {}
    # By the new settings alone the accepted records would be refused.
    second = corpus.night("n2", text_field="内容")
    assert second["ingest"]["files"] == 1
    assert second["ingest"]["documents"] == second["ingest"]["again"] == {"s": 4}
    assert second["ingest"]["refused"] == {}
    assert second["dedup"]["kept"] == {"s": 4}
    assert "removed" not in second["dedup"]
    assert {row["uri"] for row in corpus.rows("n2", "documents")} == {f"raw/b.jsonl#{2 * n + 2}" for n in range(4)}
    assert len(corpus.kept()) == len(set(corpus.kept())) == 16
    assert corpus.night("n3", text_field="内容") == {}
    assert corpus.space.nights.load("n2").depends_on["stages"]["dedup"]["edited"] == {}


def test_a_file_that_was_accepted_is_not_read_again_whatever_changes(corpus: Corpus):
    corpus.write("a.jsonl", mixed(0, 6, 0))
    corpus.night("n1")
    assert corpus.night("n2", text_field=["text", "内容"], id_field="id", format="jsonl") == {}
    assert corpus.night("n2", 'run.retry=["s"]', text_field=["text", "内容"]) == {}


def test_what_is_refused_again_is_tried_again_at_the_next_change_only(corpus: Corpus):
    corpus.write("b.jsonl", mixed(100, 3, 2))
    corpus.night("n1")
    second = corpus.night("n2", text_field=["text", "body"])
    assert second["ingest"]["refused"] == {"s": {"raw/b.jsonl": {"no-text": 2}}}
    assert second["ingest"]["documents"] == {}
    assert corpus.night("n3", text_field=["text", "body"]) == {}
    # Back to what night n1 was read by.
    assert corpus.night("n3")["ingest"]["refused"] == {"s": {"raw/b.jsonl": {"no-text": 2}}}
    assert corpus.night("n4", text_field=["text", "内容"])["dedup"]["kept"] == {"s": 2}
    assert len(corpus.kept()) == len(set(corpus.kept())) == 5


def test_a_new_reader_tries_again_and_so_does_a_source_that_is_named_by_hand(corpus: Corpus, monkeypatch: Any):
    corpus.write("b.jsonl", mixed(100, 3, 2))
    corpus.write("c.txt", [])
    corpus.night("n1")
    assert corpus.night("n2") == {}
    assert corpus.night("n2", 'run.retry=["s"]')["ingest"]["files"] == 2
    assert corpus.night("n3") == {}
    monkeypatch.setattr(ingest_module, "INGEST", replace(INGEST, version=INGEST.version + 1))
    assert corpus.night("n3")["ingest"]["refused"]["s"] == {
        "raw/b.jsonl": {"no-text": 2},
        "raw/c.txt": {"empty-file": 1},
    }


def test_a_source_that_is_named_by_hand_must_be_there(corpus: Corpus):
    with pytest.raises(ConfigError, match=r"run.retry: no source is named t, but s"):
        corpus.cfg('run.retry=["t"]')


def test_a_file_that_breaks_off_gives_nothing_twice_even_with_ids_of_its_own(corpus: Corpus):
    rows = [{"text": text_of(number), "content": text_of(1000 + number), "id": f"k#{number}"} for number in range(40)]
    corpus.write("a.jsonl.gz", rows)
    whole = (corpus.raw / "a.jsonl.gz").read_bytes()
    (corpus.raw / "a.jsonl.gz").write_bytes(whole[: len(whole) * 2 // 3])
    first = corpus.night("n1", id_field="id")
    kept = first["dedup"]["kept"]["s"]
    assert first["ingest"]["refused"] == {"s": {"raw/a.jsonl.gz": {"truncated": 1}}}
    again = corpus.night("n2", id_field="id", text_field="content")
    assert again["ingest"]["documents"] == {}
    assert again["ingest"]["refused"] == {"s": {"raw/a.jsonl.gz": {"truncated": 1}}}
    assert len(corpus.kept()) == kept


def test_a_file_in_an_archive_that_was_refused_as_a_whole_comes_in(corpus: Corpus):
    lines = [json.dumps({"text": text_of(number), "内容": text_of(50 + number)}) for number in range(6)]
    with zipfile.ZipFile(corpus.raw / "a.zip", "w") as archive:
        archive.writestr("good.jsonl", "\n".join([*lines[:3], '{"内容": "' + text_of(90) + '"}']))
        archive.writestr("odd", "\n".join(lines[3:]))
    first = corpus.night("n1")
    assert first["ingest"]["refused"] == {"s": {"raw/a.zip": {"no-text": 1, "unknown-format": 1}}}
    second = corpus.night("n2", format="jsonl", text_field=["text"])
    assert second["ingest"]["documents"] == {"s": 3}
    assert second["ingest"]["refused"] == {"s": {"raw/a.zip": {"no-text": 1}}}
    third = corpus.night("n3", format="jsonl", text_field="内容")
    assert third["ingest"]["documents"] == {"s": 1}
    assert third["ingest"]["refused"] == {}
    assert len(corpus.kept()) == len(set(corpus.kept())) == 7
    late = corpus.rows("n3", "documents")[0]
    (record,) = explain(corpus.space, late["id"])["records"]
    assert [one["night"] for one in record["tries"]] == ["n1", "n2"]


def test_by_option_a_lowered_bound_lets_in_what_cleaning_refused_and_the_earlier_record_is_superseded(corpus: Corpus):
    short = [{"text": text_of(number, 24)} for number in range(4)]
    corpus.write("a.jsonl", [*mixed(100, 6, 2), *short])
    strict = ("clean.min_chars=220", "clean.min_chars_han=120")
    loose = ("clean.min_chars=60", "clean.min_chars_han=40")
    first = corpus.night("n1", *strict)
    assert first["clean"]["refused"] == {"s": {"raw/a.jsonl": {"short-document": 4}}}
    assert corpus.night("n2", *loose) == {}
    assert corpus.night("n2", "clean.retry=true", *strict) == {}
    second = corpus.night("n2", "clean.retry=true", *loose)
    assert second["ingest"]["again"] == second["dedup"]["kept"] == {"s": 4}
    assert second["ingest"]["refused"] == {}
    assert corpus.night("n3", "clean.retry=true", *loose) == {}
    assert len(corpus.kept()) == len(set(corpus.kept())) == 10
    # What reading has refused is still known, and comes in with its own change.
    third = corpus.night("n3", "clean.retry=true", *loose, text_field=["text", "内容"])
    assert third["dedup"]["kept"] == {"s": 2}
    ids = {row["id"] for row in corpus.rows("n1", "removed") if row["stage"] == "clean"}
    assert ids == {row["id"] for row in corpus.rows("n2", "documents")}


def test_what_cleaning_refused_after_it_came_in_late_is_tried_again_too(corpus: Corpus):
    corpus.write("a.jsonl", [{"text": text_of(1)}, {"内容": text_of(2, 24)}])
    strict, loose = "clean.min_chars_han=150", "clean.min_chars_han=40"
    corpus.night("n1", strict)
    assert corpus.night("n2", strict, text_field=["text", "内容"])["clean"]["refused"] == {
        "s": {"raw/a.jsonl": {"short-document": 1}}
    }
    third = corpus.night("n3", loose, "clean.retry=true", text_field=["text", "内容"])
    assert third["dedup"]["kept"] == {"s": 1}
    assert corpus.night("n4", loose, "clean.retry=true", text_field=["text", "内容"]) == {}


def forget_counts(corpus: Corpus, night: str, monkeypatch: Any) -> None:
    """Let a night look as one of version 0.1, which counted no files, and a version below."""
    real = Nights.load

    def load(self: Nights, name: str) -> Manifest:
        manifest = real(self, name)
        counts = {
            step: {key: value for key, value in of.items() if key != "refused"} for step, of in manifest.counts.items()
        }
        return replace(manifest, counts=counts)

    monkeypatch.setattr(Nights, "load", load)


def test_a_night_of_an_earlier_version_that_counted_no_files_is_tried_again_alike(corpus: Corpus, monkeypatch: Any):
    corpus.write("a.jsonl", mixed(0, 6, 0))
    corpus.write("b#1.jsonl", mixed(100, 6, 4))
    corpus.night("n1")
    forget_counts(corpus, "n1", monkeypatch)
    assert corpus.night("n2") == {}
    second = corpus.night("n2", text_field=["text", "内容"])
    assert second["ingest"]["files"] == 1
    assert second["dedup"]["kept"] == {"s": 4}


def test_a_night_that_tried_again_is_made_again_by_a_repair(corpus: Corpus):
    corpus.write("b.jsonl", mixed(100, 6, 4))
    corpus.night("n1")
    corpus.night("n2", text_field=["text", "内容"])
    (path,) = (corpus.folder / "w" / "nights" / "n2" / "documents").iterdir()
    good = path.read_bytes()
    path.write_bytes(good[:-30] + bytes(30))
    _, repaired, bad = repair(corpus.space, corpus.cfg('run.retry=["s"]'))
    assert bad == {}
    assert repaired == [f"nights/n2/documents/{path.name}"]
    assert path.read_bytes() == good


def test_workers_and_kills_change_no_byte_of_a_second_try(corpus: Corpus, monkeypatch: Any):
    for name in ("a", "b", "c"):
        corpus.write(f"{name}.jsonl", mixed(100 * ord(name), 6, 4))
    corpus.night("n1")
    wanted = ("ingest.part_mb=0.001",)
    whole = ingest(corpus.space, corpus.cfg(*wanted, text_field="内容"), "x")
    assert whole.counts["again"] == {"s": 12}
    original, left = ingest_module.Run.commit, [3]

    def dies(*args: Any) -> Any:
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return original(*args)

    monkeypatch.setattr(ingest_module.Run, "commit", dies)
    with pytest.raises(KeyboardInterrupt):
        ingest(corpus.space, corpus.cfg(*wanted, "run.workers=1", text_field="内容"), "y")
    monkeypatch.setattr(ingest_module.Run, "commit", original)
    found = ingest(corpus.space, corpus.cfg(*wanted, "run.workers=4", text_field="内容"), "y")
    assert [entry.sha256 for entry in found.files] == [entry.sha256 for entry in whole.files]


def test_explain_tells_the_story_from_both_ends(corpus: Corpus):
    corpus.write("b.jsonl", [*mixed(100, 3, 2), {"text": text_of(7, 24)}])
    strict, loose = ("clean.min_chars=220",), ("clean.min_chars=60", "clean.retry=true")
    corpus.night("n1", *strict)
    corpus.night("n2", *strict, text_field=["text", "body"])
    corpus.night("n3", *loose, text_field=["text", "内容"])
    refusal = next(row for row in corpus.rows("n1", "removed") if row["uri"].endswith("#2"))
    late = next(row for row in corpus.rows("n3", "documents") if row["uri"] == refusal["uri"])
    first, second = explain(corpus.space, refusal["id"])["records"]
    assert [(one["night"], one["outcome"], one["id"]) for one in first["tries"]] == [
        ("n2", "refused by no-text", refusal["id"]),
        ("n3", "came in", late["id"]),
    ]
    assert first["superseded_by"] == "n2"
    assert second["superseded_by"] is None
    story = explain(corpus.space, late["id"])
    assert [one["night"] for one in story["records"][0]["tries"]] == ["n1", "n2"]
    assert "tried        n1: refused by no-text" in render(story)
    short = next(row for row in corpus.rows("n1", "removed") if row["rule"] == "short-document")
    removed, kept = explain(corpus.space, short["id"])["records"]
    assert (removed["status"], removed["superseded_by"], kept["status"], kept["night"]) == (
        "removed",
        "n3",
        "kept",
        "n3",
    )
    assert "superseded   by the record of night n3" in render(explain(corpus.space, short["id"]))


def test_what_lies_beside_the_data_goes_on_record_once(corpus: Corpus):
    corpus.write("README.md", [])
    for number, night in enumerate(("n1", "n2")):
        corpus.write(f"{night}.jsonl", [{"text": text_of(100 * number + n)} for n in range(20)])
        corpus.night(night, uri="raw/")
    left_out = [(row["uri"], row["rule"]) for night in ("n1", "n2") for row in corpus.rows(night, "removed")]
    assert left_out == [("raw/README.md", "left-out")]
