"""What is told of sources without files, and of nights in which reading or cleaning refused all of a source."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from steps import ingest, run_steps

from slimpajama.core.config import Config, validate
from slimpajama.core.errors import EmptyInputError
from slimpajama.core.progress import Sink, report_to
from slimpajama.corpus.losses import require_documents
from slimpajama.workspace.local import LocalStore
from slimpajama.workspace.open import Workspace

LONG = {"zh": "今天天气很好，我们去公园散步。" * 20, "en": "The weather is fine today, and we walk in the park. " * 12}


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture):
    """Return the warnings of the steps, in order."""
    caplog.set_level(logging.INFO, "slimpajama")
    return lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def config(folder: Path, *uris: str, **ingest_settings: object) -> Config:
    sources = [{"name": f"s{number}", "uri": uri} for number, uri in enumerate(uris)]
    data = {"ingest": {"sources": sources, **ingest_settings}, "workspace": str(folder / "w")}
    return validate(data | {"run": {"source_root": str(folder), "workers": 1}})


def read(folder: Path, *uris: str, **settings: object):
    return ingest(Workspace(LocalStore(str(folder / "w"))), config(folder, *uris, **settings), "n")


def write(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"text": LONG["zh"]}, ensure_ascii=False) + "\n", encoding="utf-8")


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("rawww/*.jsonl", 'uri = "raw/*.jsonl"'),
        ("资料/新文/*.jsonl", 'uri = "资料/新闻/*.jsonl"'),
        ("rawww/", 'uri = "raw/"'),
        ("raw", 'uri = "raw/"'),
        ("资料/新闻", 'uri = "资料/新闻/"'),
        ("ra*", 'uri = "ra*/*"'),
        ("raw[1]/*.jsonl", 'uri = "raw[[]1]/*.jsonl"'),
        ("raw/*.JSON", 'uri = "raw/*"'),
        ("*.jsonl", 'uri = "**/*.jsonl"'),
        ("资料/*.jsonl", 'uri = "资料/**/*.jsonl"'),
        ("raw/*.jsonl ", 'uri = "raw/*.jsonl"'),
        ("raw\\*.jsonl", 'uri = "raw/*.jsonl"'),
        ("nowhere/at/all/*", 'uri = "FOLDER/*.jsonl"'),
    ],
)
def test_a_pattern_without_files_alone_is_an_error_with_the_line_to_write(tmp_path, uri, line):
    write(tmp_path, "raw/a.jsonl", "raw[1]/a.jsonl", "资料/新闻/a.jsonl")
    with pytest.raises(EmptyInputError) as caught:
        read(tmp_path, uri)
    assert caught.value.exit_code == 2
    assert f"source s0: no file matches its uri: found {tmp_path}/{uri}. Write {line}" in str(caught.value)
    assert not (tmp_path / "w" / "nights").exists()


def test_a_folder_that_is_there_and_empty_wants_files(tmp_path):
    write(tmp_path, "raw/.hidden")
    with pytest.raises(EmptyInputError, match=r"Put files there, or require_files = false"):
        read(tmp_path, "raw/")


def test_a_pattern_without_files_beside_others_is_a_warning_in_every_night(tmp_path, said):
    write(tmp_path, "raw/a.jsonl")
    assert read(tmp_path, "raw/*.jsonl", "rawww/*").counts["files"] == 1
    (warning,) = said()
    assert warning.startswith(f"source s1: no file matches its uri: found {tmp_path}/rawww/*. Write uri = ")


def test_whoever_wants_silence_gets_it(tmp_path, said):
    write(tmp_path, "raw/a.jsonl")
    assert read(tmp_path, "rawww/*", "raww/*", require_files=False).counts["files"] == 0
    assert said() == []


def test_a_configuration_without_sources_says_what_to_write(tmp_path):
    with pytest.raises(EmptyInputError, match=r"no source is named. Write into the configuration: \[\[ingest.sources"):
        read(tmp_path)


def test_a_source_of_unreadable_files_alone_is_an_error_that_names_one(tmp_path, said):
    write(tmp_path, "good/a.jsonl")
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "甲.jsonl").symlink_to("nowhere")
    with pytest.raises(EmptyInputError, match=r"source s0: no file of it can be read: found raw/甲.jsonl: unreadable"):
        read(tmp_path, "raw/*")
    read(tmp_path, "raw/*", "good/*")
    assert [text.partition(":")[0] for text in said()] == ["source s0", "source s0"]


def test_a_source_that_gave_nothing_readable_is_told_of_with_the_line_to_write(tmp_path, said):
    write(tmp_path, "raw/a.jsonl")
    lines = [{"id": "7", "内容": LONG["zh"]}, {"id": "8", "body": LONG["en"]}]
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (tmp_path / "b.jsonl").write_text(text, encoding="utf-8")
    made = read(tmp_path, "raw/*", "b.jsonl")
    assert made.counts["refused"] == {"s1": {"b.jsonl": {"no-text": 2}}}
    assert said() == [
        "source s1: nothing of it is left, refused 2 by no-text; the first by no-text is b.jsonl#1: line 1: "
        'no such field; its keys: 内容, id. Write text_field = "内容" in the source.'
    ]


def test_a_source_of_which_cleaning_refused_all_is_told_of(tmp_path, said):
    write(tmp_path, "raw/a.jsonl")
    (tmp_path / "short.txt").write_text("太短", encoding="utf-8")
    steps = run_steps(Workspace(LocalStore(str(tmp_path / "w"))), config(tmp_path, "raw/*", "short.txt"), "n")
    assert [next(steps).name, next(steps).name] == ["ingest", "clean"]
    (warning,) = said()
    assert warning.startswith("source s1: nothing of it is left, refused 1 by short-document; the first by")
    assert warning.endswith("Write smaller min_chars = ... and min_chars_han = ... under [clean].")


def test_a_first_night_with_nothing_left_counts_what_every_step_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "太短"}\n{"text": "too short"}\n{"内容": "x"}\n', encoding="utf-8")
    store = LocalStore(str(tmp_path / "w"))
    with report_to(Sink()):
        made = list(run_steps(Workspace(store), config(tmp_path, "*.jsonl"), "n"))
    with pytest.raises(EmptyInputError) as caught:
        require_documents(store, "n", made, is_first=True)
    assert "no document is left; refused: 3 of s0 (2 by short-document, 1 by no-text)" in str(caught.value)
    assert str(caught.value).endswith(" under [clean]. Nothing was published.")
    assert not require_documents(store, "n", made, is_first=False)
