"""What a person is told in the morning of what went wrong: by source and rule, with the keys and the line to write."""

from __future__ import annotations

import json
from pathlib import Path

from steps import ingest, run_steps

from slimpajama.core.config import validate
from slimpajama.corpus.losses import findings, losses_of
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.open import Workspace

LONG = {"zh": "今天天气很好，我们去公园散步。" * 20, "en": "The weather is fine today, and we walk in the park. " * 12}


def lines(path: Path, *rows: dict[str, object]) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def config(folder: Path, *names: str):
    sources = [{"name": name, "uri": f"raw-{name}*.jsonl"} for name in names]
    return validate({"ingest": {"sources": sources}, "run": {"source_root": str(folder), "workers": 1}})


def test_each_source_and_rule_is_named_with_file_keys_and_the_line_to_write(tmp_path: Path):
    lines(tmp_path / "raw-peps.jsonl", *({"number": n, "body": LONG["en"] + str(n)} for n in range(250)))
    lines(tmp_path / "raw-zh-文章1.jsonl", {"内容": LONG["zh"]}, {"text": LONG["zh"] + "再见。"})
    lines(tmp_path / "raw-zh-文章2.jsonl", {"内容": LONG["zh"]})
    workspace = Workspace(LocalStore(str(tmp_path / "w")))
    read = ingest(workspace, config(tmp_path, "peps", "zh", "good"), "n")
    found = findings(workspace.store, "n", read, {"ingest": read.counts})
    assert [one.text() for one in found] == [
        "raw-peps.jsonl#1, source peps: 250 refused by no-text, the first for: "
        'line 1: no such field; its keys: body, number. Write text_field = "body" in the source.',
        "raw-zh-文章1.jsonl#1 and 1 more file, source zh: 2 refused by no-text, the first for: "
        'line 1: no such field; its keys: 内容. Write text_field = "内容" in the source.',
        "raw-good*.jsonl, source good: no file.",
    ]
    assert losses_of({"ingest": read.counts}) == "good: 1 by no-files; peps: 250 by no-text; zh: 2 by no-text"


def test_what_cleaning_refused_is_told_only_where_nothing_of_a_source_is_left(tmp_path: Path):
    lines(tmp_path / "raw-some.jsonl", {"text": LONG["en"]}, {"text": "short"})
    lines(tmp_path / "raw-none.jsonl", {"text": "太短"}, {"text": "short"})
    workspace = Workspace(LocalStore(str(tmp_path / "w")))
    made = {manifest.name: manifest for manifest in run_steps(workspace, config(tmp_path, "some", "none"), "n")}
    counts = {name: manifest.counts for name, manifest in made.items()}
    (one,) = findings(workspace.store, "n", made["clean"], counts)
    assert (one.source, one.rule, one.records, one.files) == ("none", "short-document", 2, 1)
    assert "min_chars" in one.hint
