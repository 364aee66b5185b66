"""The command line's dry run, for people and as JSON."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from slimpajama.cli import run
from slimpajama.core.config import Config


@pytest.fixture
def arguments(cfg: Config, tmp_path: Path) -> list[str]:
    sources = [f'[[ingest.sources]]\nname = "{s.name}"\nuri = "{s.uri}"\n' for s in cfg.ingest.sources]
    (tmp_path / "corpus.toml").write_text("\n".join(sources), encoding="utf-8")
    small = ["tokenizer.vocab_size=400", "run.workers=1", "clean.min_chars=50", "clean.min_chars_han=30"]
    return ["--dry-run", "--config", str(tmp_path / "corpus.toml"), *(x for s in small for x in ("--set", s))]


def test_people_see_sources_totals_errors_and_only_the_first_files(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["prepare", *arguments]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "and 34 more files; --json lists all" in lines[10]
    assert "no-files  none             raw/*.warc: 0 files" in lines[11]
    assert "went wrong" in lines[12]
    assert "1 refused by " in lines[12]
    assert [line.split()[0] for line in lines if "100.0%" in line] == ["lines", "rows", "table", "notes", "pages"]
    totals = {line.split()[0]: line for line in lines[-9:]}
    assert "561 (counted), 1 broken records" in totals["documents"]
    assert all("±25%" in totals[name] for name in ("time", "processor", "disk", "memory"))


def test_json_is_one_object_with_every_file_and_figure(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["run", *arguments, "--json", "--set", "train.tokens=5000"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    value = json.loads(line)
    assert len(value["files"]) == 44
    assert value["problems"] == [{"source": "none", "path": "raw/*.warc", "rule": "no-files", "value": "0 files"}]
    assert value["total"]["documents"] == sum(source["documents"] for source in value["sources"]) == 561
    stages = ["ingest", "clean", "compare", "decontaminate", "passages", "dedup", "segment", "tokenizer", "shards"]
    assert list(value["seconds_by_stage"]) == stages
    assert value["train"] == {"tokens": 5000, "max_seconds": 0.0, "in_seconds": False}
    assert value["error"] == {"documents": 0.0, "kept": 0.0, "other": 0.25}


def test_a_night_with_nothing_new_says_so(
    arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for file in (tmp_path / "raw").iterdir():
        file.unlink()
    assert run(["prepare", *arguments, "--set", "ingest.require_files=false"]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "no new or changed file: nothing to do"
