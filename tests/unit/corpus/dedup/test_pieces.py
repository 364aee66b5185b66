"""Records around the decision: ids told apart, every column in one schema, what is refused on record, copies found."""

import datetime as dt
import json
import textwrap

import datasets
import pandas
import polars
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from slimpajama.core.config import DedupConfig
from slimpajama.core.errors import ConfigError, EmptyInputError
from slimpajama.corpus.dedup.files import dedup_files

ZH = "第{}天，我们在北京的图书馆里读书，讨论语言模型和数据清洗，然后去{}号食堂吃饭。"
EN = "On day {} we sat in the library, read about language models and clean data, then had lunch in hall {}. "
CFG = DedupConfig()


def text(number):
    template = EN if number % 2 else ZH
    return "".join(template.format(number * 31 + k, number + 7 * k) for k in range(8))


def written(path, records):
    path.write_text("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8")
    return path


def table_of(folder):
    return pq.ParquetDataset(sorted(folder.glob("*.parquet"))).read().to_pylist()


def outcome(out):
    return table_of(out / "kept"), table_of(out / "removed")


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


def are_clear(out):
    """Return whether each id names one document, and each partner one that is kept."""
    kept, removed = outcome(out)
    ids = [row["id"] for row in kept + removed]
    return len(set(ids)) == len(ids) and {row["duplicate_of"] for row in removed} <= {row["id"] for row in kept}


def test_ids_that_several_documents_have_are_told_apart_by_file_and_number(tmp_path, out):
    paths = [
        written(
            tmp_path / "a.jsonl", [{"id": 1, "text": text(0)}, {"id": 2, "text": text(1)}, {"id": 2, "text": text(2)}]
        ),
        # Strings in one file and numbers in another, and an id that looks like a name that is made.
        written(tmp_path / "b.jsonl", [{"id": "1", "text": text(0) + "完"}, {"id": "a.jsonl:1", "text": text(3)}]),
        written(tmp_path / "c.jsonl", [{"text": text(4)}, {"id": "own", "text": text(5)}]),
    ]
    dedup_files(paths, out, CFG)
    assert are_clear(out)
    kept, removed = outcome(out)
    assert {row["id"]: row["id_"] for row in kept} == {
        "a.jsonl:2": "2",
        "a.jsonl:3": "2",
        "b.jsonl:1": "1",
        "b.jsonl:2": "a.jsonl:1",
        "c.jsonl:1": None,
        "own": None,
    }
    assert [(row["id"], row["duplicate_of"]) for row in removed] == [("a.jsonl:1", "b.jsonl:1")]


def test_an_earlier_document_with_the_id_of_a_new_one_is_named_with_where_it_is(tmp_path, out):
    old, new = tmp_path / "old", [{"id": 0, "text": text(7)}, {"id": 1, "text": text(0) + "完"}]
    dedup_files([written(tmp_path / "a.jsonl", [{"id": n, "text": text(n)} for n in range(3)])], old, CFG)
    dedup_files([written(tmp_path / "b.jsonl", new)], out, CFG, against=str(old))
    assert [(row["id"], row["duplicate_of"]) for row in outcome(out)[1]] == [("1", f"{old}:0")]


MOMENT = dt.datetime(2024, 5, 1, tzinfo=dt.UTC)
MIXED = {
    "a.parquet": {"url": "u", "score": 1, "tags": ["甲"], "meta": {"n": 1}, "when": MOMENT.replace(tzinfo=None)},
    "b.parquet": {"url": None, "score": 0.5, "tags": [1], "meta": {"m": "x"}, "when": MOMENT},
    "c.jsonl": {
        "score": 2,
        "tags": None,
        "meta": {"k": [{}]},
        "when": "2024",
        "big": 2**60 + 1,
        "flag": True,
        "none": {},
    },
    "d.jsonl": {"score": None, "big": 0.5, "flag": "no", "text_": "own", "half \ud83d": "\ud83d"},
    "e.csv": {"": "0", "url": "u,v", "score": ""},
    "f.arrow": {"kind": "k", "score": 2**40},
}


def write_mixed(folder):
    for number, (name, others) in enumerate(MIXED.items()):
        record, path = {"id": f"i{number}", "text": text(number)} | others, folder / name
        if name.endswith("jsonl"):
            path.write_text(json.dumps(record) + "\n")
            continue
        table = pa.Table.from_pylist([record])
        if name.endswith("parquet"):
            pq.write_table(table, path)
        elif name.endswith("csv"):
            pyarrow.csv.write_csv(table, path)
        else:
            table = table.set_column(2, "kind", table["kind"].dictionary_encode())
            with pa.ipc.new_stream(path, table.schema) as writer:
                writer.write_table(table)
    return [folder / name for name in MIXED]


def test_files_of_different_columns_are_kept_whole_in_one_schema(tmp_path, out):
    dedup_files(write_mixed(tmp_path), out, CFG)
    files = sorted((out / "kept").glob("*.parquet"))
    assert len(files) == len(MIXED)
    schema = pq.read_schema(files[0])
    assert all(pq.read_schema(file).equals(schema, check_metadata=True) for file in files)
    rows = pq.ParquetDataset(files).read().to_pylist()
    found = [
        {name: value for name, value in row.items() if value is not None and name not in ("id", "text")} for row in rows
    ]
    assert found[0] == {"url": "u", "score": "1", "tags": '["甲"]', "meta": '{"n": 1}', "when": "2024-05-01 00:00:00"}
    assert found[1] == {"score": "0.5", "tags": "[1]", "meta": '{"m": "x"}', "when": "2024-05-01 00:00:00+00:00"}
    assert (found[2]["big"], found[2]["flag"], found[2]["meta"]) == (str(2**60 + 1), "true", '{"k": [{}]}')
    assert found[3] == {"big": "0.5", "flag": "no", "text_": "own", "half \\ud83d": "\\ud83d"}
    assert found[4] == {"": "0", "url": "u,v", "score": ""}
    assert found[5] == {"kind": "k", "score": str(2**40)}


def test_whole_numbers_and_floats_are_floats_and_a_missing_column_is_null(tmp_path, out):
    rows = [{"n": 1, "new": ["x"]}, {"n": 0.5}, {"n": None}]
    paths = [written(tmp_path / f"{n}.jsonl", [{"text": text(n), **row}]) for n, row in enumerate(rows)]
    dedup_files(paths, out, CFG)
    assert [(row["n"], row["new"]) for row in outcome(out)[0]] == [(1.0, ["x"]), (0.5, None), (None, None)]


def test_kept_files_are_read_together_by_polars_pandas_and_datasets(tmp_path, out):
    dedup_files(write_mixed(tmp_path), out, CFG)
    files = sorted(map(str, (out / "kept").glob("*.parquet")))
    names = pq.read_schema(files[0]).names
    assert polars.read_parquet(f"{out}/kept/*.parquet").columns == names
    assert list(pandas.read_parquet(out / "kept").columns) == names
    loaded = datasets.load_dataset("parquet", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded.column_names == names
    assert loaded["text"] == [text(number) for number in range(len(MIXED))]


def test_other_fields_can_hold_text_and_id(tmp_path, out):
    records = [{"id": 5, "key": f"k{n}", "text": "题", "content": text(n), "parts": [{"t": "一"}]} for n in range(2)]
    path = written(tmp_path / "a.jsonl", records)
    dedup_files([path], out, CFG, text_fields=("content",), id_field="key")
    assert outcome(out)[0] == [
        {
            "id": f"k{n}",
            "text": text(n),
            "id_": 5,
            "key": f"k{n}",
            "text_": "题",
            "content": text(n),
            "parts": '[{"t": "一"}]',
        }
        for n in range(2)
    ]


@pytest.mark.parametrize("kind", ["jsonl", "parquet", "csv"])
def test_records_without_the_text_field_are_on_record_with_their_fields(tmp_path, out, kind):
    good, bad = written(tmp_path / "good.jsonl", [{"id": "g", "text": text(1)}]), tmp_path / f"bad.{kind}"
    rows = pa.table({"id": ["1", "2"], "内容": [text(1), "a"]})
    {"parquet": pq.write_table, "csv": pyarrow.csv.write_csv}.get(
        kind, lambda rows, path: written(path, rows.to_pylist())
    )(rows, bad)
    report = dedup_files([bad, good], out, CFG)
    refused = table_of(out / "refused")
    assert (report.kept, report.bad_records) == (1, len(refused))
    assert all(row["file"] == bad.name and "no-text: " in row["reason"] and "内容" in row["reason"] for row in refused)
    assert [row["place"] for row in refused] == (["line 1", "line 2"] if kind == "jsonl" else [""])
    before = {path: path.read_bytes() for path in out.rglob("*.parquet")}
    with pytest.raises(EmptyInputError, match=r"found no-text: .*内容.*--text-field FIELD") as error:
        dedup_files([bad], out, CFG)
    assert error.value.exit_code == 2
    assert {path: path.read_bytes() for path in out.rglob("*.parquet")} == before
    dedup_files([good], out, CFG)
    assert not (out / "refused").exists()


@pytest.mark.parametrize(
    ("inputs", "options", "message"),
    [
        (["a.jsonl", "x/../a.jsonl"], {}, "named twice"),
        (["out/kept/part-00000.parquet"], {}, "is read, and would be replaced"),
        (["a.jsonl"], {"id_field": "doc"}, "--id-field doc: no record has this field"),
        (["a.jsonl"], {"text_fields": ("body",)}, "expected a field body"),
        (["a.jsonl"], {"against": "x"}, "nothing to compare with"),
    ],
)
def test_wrong_usage_leaves_an_earlier_result_as_it_is(tmp_path, out, monkeypatch, inputs, options, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x").mkdir()
    dedup_files([written(tmp_path / "a.jsonl", [{"id": n, "text": text(n)} for n in range(3)])], out, CFG)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises((ConfigError, EmptyInputError), match=message) as error:
        dedup_files([tmp_path / name for name in inputs], out, CFG, **options)
    assert error.value.exit_code == 2
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


COPIES = {
    "zh wrapped": lambda zh, en: (zh, "\r\n".join(zh[n : n + 19] for n in range(0, len(zh), 19))),
    "zh spaced": lambda zh, en: (zh, " ".join(zh)),
    "zh ideographic spaces": lambda zh, en: (zh, "\u3000\u3000" + "\u3000".join(zh)),
    "zh half width": lambda zh, en: (zh, zh.replace("，", ",").replace("。", ".\n")),
    "zh radicals": lambda zh, en: (
        zh,
        zh.replace("子", "⼦").replace("心", "⼼").replace("见", "⻅").replace("人", "⼈"),
    ),
    "zh zero width": lambda zh, en: (zh, "\u200b".join(zh)),
    "zh and en wrapped": lambda zh, en: (zh.replace("北京", "Python"), zh.replace("北京", " Python\n")),
    "en wrapped": lambda zh, en: (en, "\n".join(textwrap.wrap(en, 40))),
    "en ligatures": lambda zh, en: (en, en.replace("fi", "ﬁ").replace("ff", "ﬀ")),
    "en quotes": lambda zh, en: (f'"{en}"', f"“{en.replace(' ', chr(0xA0))}”"),
}


@pytest.mark.parametrize("kind", COPIES)
def test_copies_that_a_reader_sees_no_difference_in_are_exact_duplicates(tmp_path, out, kind):
    zh = "第9123天，我们在北京见到许多人，心里踏实了，孩子花了45元。后来讨论语言模型和数据，去食堂吃饭。" * 3
    en = "On the first day of office work we found 12 reliable machines, and nobody offered to fix the final one. " * 3
    path = written(tmp_path / "a.jsonl", [{"id": str(n), "text": copy} for n, copy in enumerate(COPIES[kind](zh, en))])
    report = dedup_files([path], out, CFG)
    assert (report.kept, report.exact_duplicates) == (1, 1)
    assert [row["jaccard"] for row in outcome(out)[1]] == [1.0]
