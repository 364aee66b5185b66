"""The command's two passes: any mixture of files in, kept and removed out, bad records named and nothing lost."""

import bz2
import gzip
import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import zstandard

from slimpajama.core.config import DedupConfig
from slimpajama.core.errors import ConfigError, EmptyInputError, InputError
from slimpajama.corpus.dedup import files
from slimpajama.corpus.dedup.files import dedup_files
from slimpajama.corpus.sources import streams

ZH = "第{}天，我们在北京的图书馆里读书，讨论语言模型和数据清洗，然后去{}号食堂吃饭。"
EN = "On day {} we sat in the library, read about language models and clean data, then had lunch in hall {}. "
CFG = DedupConfig()


def text(number):
    template = EN if number % 2 else ZH
    return "".join(template.format(number * 31 + k, number + 7 * k) for k in range(8))


RECORDS = [{"id": f"d{n}", "text": text(n // 2) + "。" * (n % 2), "meta": {"n": n}} for n in range(40)]


def line(record):
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def table_of(folder):
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables(tables, promote_options="default").to_pylist()


def outcome(out):
    return table_of(out / "kept"), table_of(out / "removed")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def write_inputs(folder, kind):
    data = b"".join(map(line, RECORDS))
    path = folder / f"corpus.{kind}"
    if kind == "parquet":
        rows = [record | {"meta": str(record["meta"])} for record in RECORDS]
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=7)
    elif kind.endswith("gz"):
        path.write_bytes(gzip.compress(data[:5000]) + gzip.compress(data[5000:]))
    elif kind.endswith("bz2"):
        path.write_bytes(bz2.compress(data[:5000]) + bz2.compress(data[5000:]))
    elif kind == "csv":
        rows = [{"id": record["id"], "text": record["text"]} for record in RECORDS]
        pyarrow.csv.write_csv(pa.Table.from_pylist(rows), path)
    elif kind == "arrow":
        table = pa.Table.from_pylist([{"id": record["id"], "text": record["text"]} for record in RECORDS])
        with pa.ipc.new_stream(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=7)
    elif kind.endswith("zst"):
        compress = zstandard.ZstdCompressor().compress
        path.write_bytes(compress(data[:5000]) + compress(data[5000:]))
    else:
        path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["jsonl", "json", "jsonl.gz", "jsonl.bz2", "jsonl.zst", "csv", "arrow", "parquet"])
@pytest.mark.parametrize("workers", [1, 3])
def test_every_kind_of_file_gives_the_same_decision(tmp_path, out, kind, workers, monkeypatch):
    monkeypatch.setattr(files, "WANT", replace(files.WANT, batch_bytes=3000))  # many batches
    report = dedup_files([write_inputs(tmp_path, kind)], out, CFG, workers)
    kept, removed = outcome(out)
    # The longer of each pair.
    assert [row["id"] for row in kept] == [f"d{n}" for n in range(1, 40, 2)]
    assert [row["text"] for row in kept] == [record["text"] for record in RECORDS[1::2]]
    assert [(row["id"], row["duplicate_of"]) for row in removed] == [(f"d{n}", f"d{n + 1}") for n in range(0, 40, 2)]
    assert all(0.8 <= row["jaccard"] < 1 for row in removed)
    assert (report.documents, report.kept, report.near_duplicates, report.exact_duplicates) == (40, 20, 20, 0)
    assert sorted(path.name for path in out.iterdir()) == ["kept", "removed"]


def test_a_parquet_file_keeps_all_its_columns(tmp_path, out):
    dedup_files([write_inputs(tmp_path, "parquet")], out, CFG)
    assert [row["meta"] for row in outcome(out)[0]] == [f"{{'n': {n}}}" for n in range(1, 40, 2)]


def test_documents_without_an_id_are_named_by_file_and_number(tmp_path, out):
    lines, parquet = tmp_path / "a.jsonl", tmp_path / "b.parquet"
    lines.write_bytes(line({"text": text(1)}) + b"\n" + line({"text": text(2), "id": 7}))
    pq.write_table(pa.table({"text": [None, text(3), text(1)], "id": pa.array([None, None, 8])}), parquet)
    report = dedup_files([lines, parquet], out, CFG)
    kept, removed = outcome(out)
    assert [row["id"] for row in kept] == ["7", "b.parquet:2", "8"]
    assert [(row["id"], row["duplicate_of"], row["jaccard"]) for row in removed] == [("a.jsonl:1", "8", 1.0)]
    assert [(bad.file, bad.place, bad.reason) for bad in report.bad] == [
        ("b.parquet", "row 1", "no-text: no such field")
    ]


def test_files_of_one_name_in_two_folders_give_different_ids(tmp_path, out):
    paths = [tmp_path / folder / "same.jsonl" for folder in ("x", "y")]
    for number, path in enumerate(paths):
        path.parent.mkdir()
        path.write_bytes(line({"text": text(number)}))
    dedup_files(paths, out, CFG)
    assert [row["id"] for row in outcome(out)[0]] == [f"{path}:1" for path in paths]


BAD_LINES = {
    b"{": "not-json: Expecting property name",
    b'{"text": 5}': "no-text: a int",
    b'{"id": "x"}': "no-text: no such field",
    b'{"text": null}': "no-text: no such field",
    b"[1, 2]": "not-json: a list",
    b'{"text": "\xff\xfe"}': "invalid-utf8: bytes ff fe 22 7d at byte 11",
    b'{"text": "\\ud83d"}': "lone-surrogate: U+D83D at character 1",
    b"[" * 100_000: "not-json: nested too deeply",
    b'{"text": "a"} {"text": "b"}': "not-json: Extra data",
    b"\x00": "not-json: Expecting value",
}


@pytest.mark.parametrize("bad", BAD_LINES)
def test_a_bad_line_is_named_and_does_not_stop_the_run(tmp_path, out, bad):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(line(RECORDS[1]) + bad + b"\n" + line(RECORDS[3]).rstrip())
    report = dedup_files([path], out, CFG)
    assert [row["id"] for row in outcome(out)[0]] == ["d1", "d3"]
    assert [(record.file, record.place) for record in report.bad] == [("corpus.jsonl", "line 2")]
    assert BAD_LINES[bad] in report.bad[0].reason
    assert "corpus.jsonl, line 2: " in report.text()
    assert report.as_dict()["bad"][0]["place"] == "line 2"


@pytest.mark.parametrize(("suffix", "compress"), [("gz", gzip.compress), ("zst", zstandard.compress)])
def test_a_file_that_breaks_off_gives_what_was_read(tmp_path, out, suffix, compress):
    noise = np.random.default_rng(0).integers(48, 120, 3_000_000, np.uint8).tobytes()
    path = tmp_path / f"corpus.jsonl.{suffix}"
    path.write_bytes(compress(b"".join(map(line, RECORDS)) + b'{"text": "' + noise)[:-20])
    report = dedup_files([path], out, CFG)
    assert report.kept == 20
    assert [(bad.place, bad.reason.split(":")[0]) for bad in report.bad] == [("", "truncated")]


def test_an_endless_line_is_skipped_without_being_held(tmp_path, out, monkeypatch):
    monkeypatch.setattr(streams, "BLOCK", 500)
    monkeypatch.setattr(files, "WANT", replace(files.WANT, batch_bytes=1000, max_document_bytes=4000))
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(line(RECORDS[1]) + line({"id": "huge", "text": "x" * 50_000}) + line(RECORDS[3]) + b"{\n")
    report = dedup_files([path], out, CFG)
    assert [row["id"] for row in outcome(out)[0]] == ["d1", "d3"]
    assert [bad.place for bad in report.bad] == ["line 2", "line 4"]


@pytest.mark.parametrize("content", [b"", b"\n\n", b"{\n"])
def test_without_a_document_nothing_is_written(tmp_path, out, content):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(content)
    with pytest.raises(EmptyInputError, match="no record can be used"):
        dedup_files([path], out, CFG)
    assert not out.exists()


def test_where_all_is_removed_the_kept_files_still_have_their_columns(tmp_path, out):
    path = write_inputs(tmp_path, "jsonl")
    dedup_files([path], tmp_path / "first", CFG)
    dedup_files([path], out, CFG, against=str(tmp_path / "first"))
    assert outcome(out)[0] == []
    assert pq.read_schema(out / "kept" / "part-00000.parquet").names == ["id", "text", "meta"]


def test_a_second_run_replaces_the_first(tmp_path, out):
    path = write_inputs(tmp_path, "jsonl")
    dedup_files([path], out, CFG)
    first = {file.name: file.read_bytes() for file in out.rglob("*.parquet")}
    dedup_files([path], out, CFG)
    assert {file.name: file.read_bytes() for file in out.rglob("*.parquet")} == first
    path.write_bytes(line(RECORDS[0]))
    dedup_files([path], out, CFG)
    assert [row["id"] for row in outcome(out)[0]] == ["d0"]


def test_a_folder_of_other_things_is_not_replaced(tmp_path, out):
    (out / "kept").mkdir(parents=True)
    (out / "kept" / "thesis.docx").write_text("years of work")
    with pytest.raises(ConfigError, match=r"holds other things: found thesis\.docx"):
        dedup_files([write_inputs(tmp_path, "jsonl")], out, CFG)
    assert (out / "kept" / "thesis.docx").exists()


def test_what_cannot_be_read_at_all_is_said_and_nothing_is_left(tmp_path, out):
    wrong = {
        "a.txt": (ConfigError, "unknown kind of file"),
        "b.parquet": (InputError, "unreadable: .*no Parquet"),
        "c.jsonl": (ConfigError, "no such file"),
        "corpus.jsonl": (ConfigError, "named twice"),
    }
    (tmp_path / "a.txt").write_text("text\nx")
    (tmp_path / "b.parquet").write_text("no parquet")
    for name, (error, message) in wrong.items():
        with pytest.raises(error, match=message):
            dedup_files([write_inputs(tmp_path, "jsonl"), tmp_path / name], out, CFG)
    assert not out.exists()


def test_a_place_that_cannot_be_written_to_is_said(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match=r"file/out: cannot be written: Not a directory\. Is there room"):
        dedup_files([write_inputs(tmp_path, "jsonl")], tmp_path / "file" / "out", CFG)


OLD = [{"id": f"old{n}", "text": text(n)} for n in range(6)]
NEW = [
    {"id": "same", "text": text(1).upper()},
    {"id": "near", "text": text(2) + "完。"},
    {"id": "new", "text": text(50)},
    {"id": "new twice", "text": text(50) + "!"},
]


def write_old_or_new(path, records, kind):
    if kind == "parquet":
        pq.write_table(pa.Table.from_pylist(records), path.with_suffix(".parquet"), row_group_size=2)
        return path.with_suffix(".parquet")
    path.with_suffix(".jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return path.with_suffix(".jsonl")


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
@pytest.mark.parametrize("memory_mb", [1000, 1])
def test_what_an_earlier_run_kept_is_removed_with_its_partner(tmp_path, kind, memory_mb):
    dedup_files([write_old_or_new(tmp_path / "old", OLD, kind)], tmp_path / "first", CFG)
    cfg = replace(CFG, memory_mb=memory_mb)
    report = dedup_files(
        [write_old_or_new(tmp_path / "new", NEW, kind)], tmp_path / "second", cfg, against=str(tmp_path / "first")
    )
    kept, removed = outcome(tmp_path / "second")
    assert [row["id"] for row in kept] == ["new twice"]
    assert [(row["id"], row["duplicate_of"]) for row in removed] == [
        ("same", "old1"),
        ("near", "old2"),
        ("new", "new twice"),
    ]
    assert removed[0]["jaccard"] == 1.0
    assert all(0.8 <= row["jaccard"] < 1 for row in removed[1:])
    assert (report.exact_duplicates, report.near_duplicates) == (1, 2)


def test_nothing_to_compare_with_is_said_before_anything_is_read(tmp_path):
    (tmp_path / "empty").mkdir()
    path = write_old_or_new(tmp_path / "new", NEW, "jsonl")
    for against in ("empty", "missing"):
        with pytest.raises(ConfigError, match=r"nothing to compare with: expected a workspace, or a folder"):
            dedup_files([path], tmp_path / "out", CFG, against=str(tmp_path / against))
    dedup_files([path], tmp_path / "out", CFG)
    with pytest.raises(ConfigError, match="would be replaced, and is compared with"):
        dedup_files([path], tmp_path / "out", CFG, against=str(tmp_path / "out"))
    assert len(outcome(tmp_path / "out")[0]) == 3


def test_pairs_that_are_not_verified_have_no_similarity(tmp_path):
    path = write_old_or_new(tmp_path / "new", [*OLD, *NEW], "jsonl")
    report = dedup_files([path], tmp_path / "out", DedupConfig(preset="slimpajama"))
    assert report.compared == 0
    similar = {row["id"]: row["jaccard"] for row in outcome(tmp_path / "out")[1]}
    assert similar["same"] == 1.0 or similar["old1"] == 1.0
    assert None in similar.values()


def test_texts_that_differ_in_punctuation_only_are_copies_where_it_is_left_out(tmp_path):
    path = tmp_path / "in.jsonl"
    texts = [
        f"{lead}今天{mark}天气很好{mark}" * 9 + "Good news everyone" + mark for lead, mark in (("", "，"), ("《", "！"))
    ]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts), encoding="utf-8")
    for drop, kept in ((False, 2), (True, 1)):
        cfg = DedupConfig(drop_punctuation=drop, threshold=0.95)
        assert dedup_files([path], tmp_path / f"out-{kept}", cfg).kept == kept
