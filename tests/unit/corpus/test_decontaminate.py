"""The stage on a workspace: what it refuses and what it says of it, in one night and over two."""

import gzip
import json

import numpy as np
import pyarrow as pa
import pytest
from steps import begin_step, compare, decontaminate, deduplicate

from slimpajama.core.config import load_config
from slimpajama.core.errors import ConfigError, InputError
from slimpajama.core.schema import CLEANED
from slimpajama.core.split import assign
from slimpajama.workspace import layout
from slimpajama.workspace.manifest import FileEntry, Manifest
from slimpajama.workspace.nights import Nights
from slimpajama.workspace.open import Workspace, open_store
from slimpajama.workspace.parquet import parquet_bytes, read_table
from slimpajama.workspace.step import Part
from slimpajama.workspace.store import sha256

QUESTION = {
    "zh": "下列哪一座城市在宋朝时期曾经作为都城，并且人口超过一百万？",
    "en": "Which of the following cities was a capital during the Song dynasty and had more than a million people?",
}


def text(seed, n=300):
    rng = np.random.default_rng(seed)
    return "".join(chr(0x4E00 + int(c)) for c in rng.integers(0, 5000, n))


def ids(night, n):
    return [sha256(f"{night} {k}".encode())[:32] for k in range(n)]


def cleaned(store, night, texts):
    stage = begin_step(store, "clean", work=layout.night(night).work("clean"), about={"texts": texts})
    rows = [
        {
            "id": id_,
            "text": body,
            "lang": "zh",
            "source": "web",
            "uri": f"web.txt#{k}",
            "n_chars": len(body),
            "sha256": sha256(body.encode()),
            "n_bytes": len(body.encode()),
        }
        for k, (id_, body) in enumerate(zip(ids(night, len(texts)), texts, strict=True))
    ]
    half = len(rows) // 2
    for number, part in enumerate((rows[:half], rows[half:])):
        name = f"part-{number:05d}"
        if not stage.finished:
            stage.commit(name, Part({f"{stage.work}/{name}.parquet": pa.Table.from_pylist(part, CLEANED)}))
    return stage.result if stage.finished else stage.finish()


def config(folder, *overrides, files="eval/*"):
    sets = (
        f'decontaminate.evaluations=[{{name="exam", uri="{files}", text_field=["question", "answer"], id_field="id"}}]'
    )
    return load_config(None, [f"run.source_root={folder}", *([sets] if files else []), *overrides])


def write_exam(folder, records):
    (folder / "eval").mkdir(exist_ok=True)
    with gzip.open(folder / "eval" / "exam.jsonl.gz", "wt", encoding="utf-8") as file:
        file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def run(store, cfg, night, texts):
    clean = cleaned(store, night, texts)
    compared = compare(Workspace(store), cfg, night, clean)
    refused = decontaminate(Workspace(store), cfg, night, clean, compared)
    return [clean, compared, refused, deduplicate(Workspace(store), cfg, night, clean, compared, refused)]


def removed(store, manifest):
    return [row for entry in manifest.entries("nights/n") for row in read_table(store, entry).to_pylist()]


@pytest.fixture
def store(tmp_path):
    return open_store(str(tmp_path / "w"))


def test_a_document_with_an_exam_question_is_removed_and_the_row_names_question_and_place(store, tmp_path):
    write_exam(tmp_path, [{"id": f"q-{lang}", "question": q, "answer": "A"} for lang, q in QUESTION.items()])
    texts = [text(1), f"{text(2, 50)}《{QUESTION['zh']}》{text(3)}", f"Quiz.\n{QUESTION['en'].upper()}\n{text(4)}"]
    stages = run(store, config(tmp_path), "n1", texts)
    rows = {row["uri"]: row for row in removed(store, stages[2])}
    assert set(rows) == {"web.txt#1", "web.txt#2"}
    zh, en = rows["web.txt#1"], rows["web.txt#2"]
    assert (zh["stage"], zh["rule"], zh["night"]) == ("decontaminate", "evaluation-overlap", "n1")
    assert zh["value"] == (
        f"{(len(QUESTION['zh']) - 2) / 2:g} words of exam: eval/exam.jsonl.gz#q-zh, "
        f"characters 51 to {50 + len(QUESTION['zh'])}: {QUESTION['zh'][:-1]}"
    )
    assert zh["threshold"] == "less than 13 words in a row"
    assert en["value"].startswith("19 words of exam: eval/exam.jsonl.gz#q-en, characters 6 to 108: WHICH OF")
    assert zh["text"] == texts[1]
    assert stages[2].counts == {
        "removed": {"web": {"evaluation-overlap": 2}},
        "bytes": sum(len(t.encode()) for t in texts[1:]),
        "records": 2,
        "too_short": 0,
    }
    kept = [row for entry in stages[3].entries("nights/n1/documents/") for row in read_table(store, entry).to_pylist()]
    assert [row["text"] for row in kept] == [texts[0]]


def held_out(cfg, night, n):
    """Return which of `n` documents, none like another, are held out."""
    return assign(ids(night, n), cfg.shards) > 0


def test_a_training_document_that_holds_a_held_out_one_is_removed_and_the_held_out_one_is_not(store, tmp_path):
    cfg = config(tmp_path, "shards.test_share=0.3", files="")
    flags = held_out(cfg, "n1", 12)
    texts = [text(10 + k) for k in range(12)]
    ((test, *_), (train, *_)) = np.flatnonzero(flags), np.flatnonzero(~flags)
    texts[train] = text(90, 200) + texts[test][20:280] + text(91, 200)
    (row,) = removed(store, run(store, cfg, "n1", texts)[2])
    assert (row["id"], row["rule"], row["threshold"]) == (ids("n1", 12)[train], "held-out-overlap", "less than 50%")
    assert f"of held-out document {ids('n1', 12)[test]} of night n1, characters" in row["value"]


def test_what_an_earlier_night_holds_out_stays_out_of_a_later_nights_training(store, tmp_path):
    cfg = config(tmp_path, files="")
    stages = run(store, cfg, "n1", [text(1), text(2)])
    words = pa.table({"id": ["earlier"], "words": [[text(7)[:2], text(7)[2:5], text(7)[5:]]]})
    data, path = parquet_bytes(words), "nights/n1/shards/test/one.parquet"
    store.write(path, data)
    Nights(store).publish(
        "n1", [*stages, Manifest("shards", "f", (FileEntry(path, sha256(data), len(data), 1),), {}, {})], cfg
    )
    texts = [text(20 + k) for k in range(8)]
    train = int(np.flatnonzero(~held_out(cfg, "n2", 8))[0])
    texts[train] = text(90, 200) + text(7)
    (row,) = removed(store, run(store, cfg, "n2", texts)[2])
    assert row["id"] == ids("n2", 8)[train]
    assert row["value"].startswith("100% of held-out document earlier of night n1, characters ")


def test_with_nothing_to_look_for_nothing_is_read_or_written(store, tmp_path, monkeypatch):
    cfg = config(tmp_path, "decontaminate.held_out_share=0", files="")
    clean = cleaned(store, "n1", [text(1), text(2)])
    compared = compare(Workspace(store), cfg, "n1", clean)
    monkeypatch.setattr("slimpajama.corpus.decontaminate.read_table", None)
    assert decontaminate(Workspace(store), cfg, "n1", clean, compared).files == ()


def test_another_exam_is_another_fingerprint_and_the_same_one_is_skipped(store, tmp_path, capsys):
    texts = [text(1), text(2) + QUESTION["zh"]]
    write_exam(tmp_path, [{"question": QUESTION["zh"]}])
    first = run(store, config(tmp_path), "n1", texts)[2]
    assert run(store, config(tmp_path), "n1", texts)[2].digest == first.digest
    write_exam(tmp_path, [{"question": QUESTION["en"]}])
    second = run(store, config(tmp_path), "n1", texts)[2]
    assert second.fingerprint != first.fingerprint
    assert not second.files


@pytest.mark.parametrize(
    ("line", "said"),
    [("{not json", "not-json"), ('{"question": 5}', "no-text"), ('{"other": "x"}', "no-text"), ("", "empty-file")],
)
def test_a_broken_evaluation_file_is_one_error_that_names_it(store, tmp_path, line, said):
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "bad.jsonl").write_text(line + "\n" * bool(line), encoding="utf-8")
    with pytest.raises(InputError, match=f"eval/bad.jsonl(, line 1)?: evaluation file: {said}"):
        run(store, config(tmp_path), "n1", [text(1), text(2)])


def test_a_set_without_files_is_an_error(store, tmp_path):
    with pytest.raises(InputError, match="evaluation set exam has no files"):
        run(store, config(tmp_path), "n1", [text(1), text(2)])


def test_workers_change_no_byte(tmp_path):
    write_exam(tmp_path, [{"question": q} for q in QUESTION.values()])
    texts = [text(k) + QUESTION["zh"] * (k % 3 == 0) for k in range(12)]
    digests = [
        run(open_store(str(tmp_path / str(n))), config(tmp_path, f"run.workers={n}"), "n1", texts)[2].digest
        for n in (1, 2)
    ]
    assert digests[0] == digests[1]


def test_wrong_settings_are_refused(tmp_path):
    with pytest.raises(ConfigError, match="short_words must be at most ngram_words"):
        load_config(None, ["decontaminate.short_words=14"])
    with pytest.raises(ConfigError, match=r"source exam needs 'http', which ingest.protocols does not allow"):
        config(tmp_path, files="http://example.org/exam.jsonl")


@pytest.mark.parametrize("side", ["source", "target"])
def test_what_holds_a_side_of_a_test_pair_is_not_trained_on(tmp_path, side):
    english = " ".join(f"word{k} of it" for k in range(12))
    rows = [{"source": english, "target": text(77, 30)}]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    source = 'pairs.sources=[{name="mine", uri="pairs.jsonl", task="translation"}]'
    cfg = config(
        tmp_path, source, "pairs.test_share=1", "pairs.max_length_ratio=99", "decontaminate.held_out_share=0", files=""
    )
    store = open_store(str(tmp_path / "workspace"))
    clean = cleaned(store, "n1", [f"{text(1)} {rows[0][side]} {text(2)}", text(3)])
    refused = decontaminate(Workspace(store), cfg, "n1", clean, compare(Workspace(store), cfg, "n1", clean))
    (row,) = [row for entry in refused.entries("nights/") for row in read_table(store, entry).to_pylist()]
    assert row["id"] == ids("n1", 2)[0]
    assert row["rule"] == "evaluation-overlap"
    assert " of test pair " in row["value"]
