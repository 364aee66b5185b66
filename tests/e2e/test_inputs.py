"""Wrong input through the whole command: the night goes on, the record is named, nothing half is published."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys

import pytest
from small_corpus import CONFIG, QUESTIONS, chinese, write_lines

from slimpajama.workspace.manifest import entry_of
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import open_store, open_workspace
from slimpajama.workspace.parquet import read_table

SOURCES = """
workspace = "workspace"

[[ingest.sources]]
name = "good"
uri = "raw/good.jsonl.gz"

[[ingest.sources]]
name = "bad"
uri = "raw/bad/*"

[[ingest.sources]]
name = "missing"
uri = "raw/nowhere/*.txt"
"""
SMALL = CONFIG[CONFIG.index("[tokenizer]") :].replace("tokens = 60_000", "tokens = 10_000")


def write_bad(folder):
    bad = folder / "raw" / "bad"
    bad.mkdir(parents=True)
    good = gzip.compress(b"".join(json.dumps({"text": chinese(n)}).encode() + b"\n" for n in range(50)), mtime=0)
    (bad / "cut.jsonl.gz").write_bytes(good[: len(good) // 2])
    (bad / "latin1.txt").write_bytes("café".encode("latin-1") * 100)
    (bad / "gbk.txt").write_bytes(chinese(1).encode("gbk"))
    mixed = ['{"text": "好好好好好"}', "{not json", '{"title": "no text"}', "[1]"]
    (bad / "mixed.jsonl").write_text("\n".join(mixed), encoding="utf-8")
    (bad / "empty.txt").write_bytes(b"")
    (bad / "deep.jsonl").write_text("[" * 100_000 + "\n", encoding="utf-8")
    (bad / "nul.txt").write_bytes(b"abc\x00def" * 100)
    (bad / "no.parquet").write_bytes(b"PAR1 nothing of the kind")


@pytest.fixture(scope="module")
def bad_corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bad")
    write_lines(folder / "raw" / "good.jsonl.gz", [{"text": chinese(5000 + n)} for n in range(150)])
    write_bad(folder)
    (folder / "config.toml").write_text(SOURCES + SMALL, encoding="utf-8")
    return folder


def test_every_bad_record_is_on_record_and_the_night_goes_on(bad_corpus, slimpajama):
    done = slimpajama("prepare", "--config", bad_corpus / "config.toml", "--json")
    counts = json.loads(done.stdout.splitlines()[-1])["counts"]
    assert counts["dedup"]["kept"]["good"] == 150
    store = open_store(str(bad_corpus / "workspace"))
    (night,) = Nights(store).published()
    removed = [
        row
        for entry in Nights(store).load(night).entries(f"nights/{night}/removed/")
        for row in read_table(store, entry).to_pylist()
    ]
    seen = {(row["uri"].rsplit("/", 1)[-1].partition("#")[0], row["rule"]) for row in removed if row["source"] == "bad"}
    assert {
        ("cut.jsonl.gz", "truncated"),
        ("latin1.txt", "unknown-encoding"),
        ("mixed.jsonl", "not-json"),
        ("mixed.jsonl", "no-text"),
        ("mixed.jsonl", "short-document"),
        ("empty.txt", "empty-file"),
        ("deep.jsonl", "not-json"),
        ("nul.txt", "has-nul"),
        ("no.parquet", "unreadable"),
    } <= seen
    assert ("missing", "no-files") in {(row["source"], row["rule"]) for row in removed}
    assert all(row["night"] == night and row["value"] for row in removed)


def test_a_document_with_an_exam_question_is_removed_and_explain_shows_question_and_stretch(
    corpus, slimpajama, tmp_path
):
    workspace = tmp_path / "w"
    slimpajama("prepare", "--config", corpus / "config.toml", "--workspace", workspace, "--night", "n1")
    store = open_store(str(workspace))
    paths = [path for path in Nights(store).load("n1").paths("nights/n1/removed/") if "/decontaminate-" in path]
    rows = [row for path in paths for row in read_table(store, entry_of(path, store.read(path))).to_pylist()]
    rows = {row["lang"]: row for row in rows if row["rule"] == "evaluation-overlap"}
    assert set(rows) == {"zh", "en"}
    for number, (lang, question) in enumerate(QUESTIONS.items(), 1):
        story = slimpajama("explain", rows[lang]["id"], "--workspace", workspace).stdout
        begin = rows[lang]["text"].lower().index(question.lower())
        assert "removed by decontaminate, rule evaluation-overlap" in story
        assert (
            f"words of exam: exam/one.jsonl.gz#{number}, characters {begin} to {begin + len(question) - 1}: " in story
        )
        assert question[:-1].lower() in story.lower()


def test_no_document_at_all_is_a_clear_error_and_publishes_nothing(tmp_path, slimpajama):
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "short.txt").write_text("太短", encoding="utf-8")
    (tmp_path / "c.toml").write_text('[[ingest.sources]]\nname = "a"\nuri = "raw/*.txt"\n', encoding="utf-8")
    done = slimpajama("run", "--config", tmp_path / "c.toml", check=2)
    assert "no document is left" in done.stderr
    assert "Traceback" not in done.stderr
    assert not open_workspace(str(tmp_path / "workspace")).nights.published()


def test_a_wrong_source_is_told_of_and_what_was_refused_comes_in_once_it_is_right(tmp_path, slimpajama):
    write_lines(tmp_path / "raw" / "a.jsonl.gz", [{"text": chinese(n)} for n in range(20)])
    write_lines(tmp_path / "raw" / "b.jsonl.gz", [{"内容": chinese(100 + n)} for n in range(20)])

    def prepare(uri, *arguments, check=0, field="text"):
        sources = f'[[ingest.sources]]\nname = "one"\nuri = "raw/a*"\n[[ingest.sources]]\nname = "two"\nuri = "{uri}"\n'
        config = tmp_path / "c.toml"
        config.write_text(f'{sources}text_field = "{field}"\n[tokenizer]\nvocab_size = 400\n', encoding="utf-8")
        return slimpajama("prepare", "--config", config, "--json", *arguments, check=check)

    one = prepare("raww/b*", "--night", "n1")
    assert f'source two: no file matches its uri: found {tmp_path}/raww/b*. Write uri = "raw/b*"' in one.stderr
    two = prepare("raw/b*", "--night", "n2")
    assert (
        "source two: nothing of it is left, refused 20 by no-text; the first by no-text is raw/b.jsonl.gz#1"
        in two.stderr
    )
    assert 'Write text_field = "内容" in the source.' in two.stderr
    assert json.loads(prepare("raw/b*").stdout)["night"] is None
    three = json.loads(prepare("raw/b*", "--night", "n3", field="内容").stdout)
    assert three["counts"]["dedup"]["kept"] == {"two": 20}
    assert prepare("raw/b*", "--retry", "three", check=2).stderr.count("no source is named three, but one, two") == 1
    nights = json.loads(slimpajama("nights", "--workspace", tmp_path / "workspace", "--json").stdout)["nights"]
    assert [night["refused"].get("two") for night in nights] == [
        {"raww/b*": {"no-files": 1}},
        {"raw/b.jsonl.gz": {"no-text": 20}},
        None,
    ]
    assert [night["again"] for night in nights] == [{}, {}, {"two": 20}]


def test_a_wrong_setting_is_one_line_and_exit_2(slimpajama):
    done = slimpajama("run", "--set", "train.tokns=5", check=2)
    (line,) = done.stderr.splitlines()
    assert line.startswith("slimpajama: settings: train.tokns: unknown setting, did you mean tokens.")


def test_a_second_run_is_told_that_the_workspace_is_held(bad_corpus, prefect_server, tmp_path, slimpajama):
    store = open_store(str(tmp_path / "w"))
    with store.lock("somebody"):
        done = slimpajama("prepare", "--config", bad_corpus / "config.toml", "--workspace", tmp_path / "w", check=1)
    assert "another run holds the workspace" in done.stderr
    assert "somebody" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupt_says_how_to_go_on(bad_corpus, prefect_server, tmp_path):
    command = [sys.executable, "-m", "slimpajama", "run", "--config", str(bad_corpus / "config.toml")]
    process = subprocess.Popen(
        [*command, "--workspace", str(tmp_path / "w")],
        env=os.environ | prefect_server,
        text=True,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    assert process.stderr.readline().startswith("ingest")  # it is under way
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    line = said.splitlines()[-1]
    assert re.fullmatch(
        r"slimpajama: stopped(| in [a-z]+, stage \d+ of 16): .* kept; the same command goes on there", line
    )
    assert "Traceback" not in said
