import csv
import gzip
import io
import json
import math
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.corpus.sources import files
from slimpajama.corpus.sources.formats import format_of
from slimpajama.corpus.sources.records import ReadOptions, Record, RejectedRecord

VISIBLE = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30).filter(
    lambda text: not text.isspace()
)


def number(item: Record | RejectedRecord) -> float:
    if isinstance(item, Record):
        return item.number
    return int(item.place.split()[1]) if item.place else math.inf


def read(name: str, data: bytes, limit: int = 1000, **settings: Any) -> list[Record | RejectedRecord]:
    found: list[Record | RejectedRecord] = []
    for batch in files.read(lambda: io.BytesIO(data), name, ReadOptions(max_document_bytes=limit, **settings)):
        batch.table.validate(full=True)
        columns = (batch.table[column].to_pylist() for column in ("number", "text", "id"))
        found += sorted([*map(Record, *columns), *batch.rejected], key=number)
    return found


def jsonl(*rows: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(**columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue()


def rules(items: list[Record | RejectedRecord]) -> list[str]:
    return [item.rule if isinstance(item, RejectedRecord) else "ok" for item in items]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.txt", "txt"),
        ("a.md.gz", "md"),
        ("A.JSONL.ZST", "jsonl"),
        ("b.ndjson", "jsonl"),
        ("c.csv.gz", "csv"),
        ("d.parquet", "parquet"),
        ("a.txt.bz2", "txt"),
        ("g.warc.gz", "warc"),
        ("h.arrow", "arrow"),
        ("e.htm", "html"),
        ("README", ""),
        ("x.exe", ""),
        ("a.gz", ""),
    ],
)
def test_the_format_is_told_by_the_name(name: str, kind: str):
    assert format_of(name) == kind
    assert format_of(name, "csv") == "csv"


def test_a_name_that_says_nothing_is_on_record():
    assert rules(read("README", b"text")) == ["unknown-format"]


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl", "a.csv", "a.parquet", "a.html"])
def test_an_empty_file_is_on_record(name: str):
    assert rules(read(name, b"")) == ["empty-file"]


def test_a_text_file_is_one_document_without_its_byte_order_mark():
    assert read("a.txt", "\ufeff第一段\n\n第二段\n".encode()) == [Record(1, "第一段\n\n第二段\n")]


def test_a_web_page_is_one_document_in_the_encoding_that_it_declares():
    page = "<meta charset=gbk><title>题</title><p>中文"
    assert read("a.html", page.encode("gbk")) == [Record(1, "中文")]
    assert read("a.html", b"<meta charset=klingon>x") == [Record(1, "x")]
    assert rules(read("a.html", b"<div>" * 10_000, 10**6)) == ["too-deep"]
    assert rules(read("a.html", b"<script>x</script>")) == ["no-text"]


def test_broken_json_lines_are_named_and_the_others_read():
    data = b"\n".join(
        [
            b'{"text": "\xe5\xa5\xbd one"}',
            b"not json",
            b'{"text": "\xff"}',
            b"[1]",
            b'{"other": 1}',
            b'{"text": ""}',
            b'{"text": 5}',
            b'{"text": "a\\u0000b"}',
            b'{"text": "\\ud83d"}',
            b"[" * 100_000,
            b"",
            b'{"text": "' + b"x" * 2000 + b'"}',
            b'{"text": "last"}',
        ]
    )
    found = read("a.jsonl", data)
    assert rules(found) == [
        "ok",
        "not-json",
        "invalid-utf8",
        "not-json",
        "no-text",
        "no-text",
        "no-text",
        "has-nul",
        "lone-surrogate",
        "too-large",
        "too-large",
        "ok",
    ]
    assert found[0] == Record(1, "好 one")
    assert found[1] == RejectedRecord(
        "line 2", "not-json", "Expecting value: line 1 column 1 (char 0)", "one JSON object"
    )
    assert found[2] == RejectedRecord("line 3", "invalid-utf8", "bytes ff 22 7d at byte 11", "valid UTF-8")
    assert found[10] == RejectedRecord("line 12", "too-large", "2012 bytes", "at most 1000 bytes")
    assert found[-1] == Record(13, "last")


def test_json_nested_ten_thousand_deep_is_on_record():
    deep = b'{"text": "x", "deep": ' + b"[" * 10_000 + b"]" * 10_000 + b"}"
    found = read("a.jsonl", deep + b'\n{"text": "next"}', 10**6)
    assert found == [RejectedRecord("line 1", "not-json", "nested too deeply", "one JSON object"), Record(2, "next")]


def test_text_and_id_are_taken_from_the_fields_that_the_source_names():
    rows = jsonl({"body": "甲", "key": "k\n1"}, {"body": "乙"}, {"body": "丙", "key": 7})
    expected = [Record(1, "甲", "k\n1"), Record(2, "乙"), Record(3, "丙", "7")]
    assert read("a.jsonl", rows, text_fields=("body",), id_field="key") == expected


def test_a_cut_archive_gives_its_whole_records_and_then_says_so():
    packed = gzip.compress(jsonl(*({"text": f"记录 {math.sin(n)}"} for n in range(2000))))
    *good, last = read("a.jsonl.gz", packed[: len(packed) // 2])
    assert len(good) > 500
    assert set(rules(good)) == {"ok"}
    assert rules([last]) == ["truncated"]


@pytest.mark.parametrize(
    ("name", "data", "rule"),
    [
        ("a.txt", b"ab\xe4\xbd", "unknown-encoding"),
        ("a.txt", b"MZ\0\0", "has-nul"),
        ("a.txt", b"\xff\xfea", "unknown-encoding"),
        ("a.txt", b" \n", "no-text"),
        ("a.txt", b"x" * 1001, "too-large"),
        ("a.txt.gz", gzip.compress(bytes(50_000_000)), "too-large"),
        ("a.txt.gz", b"no gzip", "damaged"),
        ("a.parquet", b"PAR1 no parquet", "unreadable"),
    ],
)
def test_a_broken_file_is_on_record_by_its_rule(name: str, data: bytes, rule: str):
    assert rules(read(name, data)) == [rule]


def test_a_disk_that_fails_is_on_record():
    class Failing(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError(5, "Input/output error")

    found = [
        bad for batch in files.read(Failing, "a.jsonl", ReadOptions(max_document_bytes=9)) for bad in batch.rejected
    ]
    assert found == [RejectedRecord("", "unreadable", "Input/output error", "a file that is whole")]


def test_csv_rows_may_span_lines_and_broken_ones_are_named():
    data = b'\xef\xbb\xbfid,text\r\n1,"two\nlines, \xe5\xa5\xbd"\n2,\xff\xfe\n3\n4,' + b"x" * 2000 + b"\n5,last\n"
    found = read("a.csv", data, id_field="id")
    assert rules(found) == ["ok", "invalid-utf8", "no-text", "ok", "too-large"]
    assert found[0] == Record(1, "two\nlines, 好", "1")
    assert found[1] == RejectedRecord("row 2", "invalid-utf8", "bytes ff fe at byte 1", "valid UTF-8")
    assert found[-2:] == [
        Record(4, "last", "5"),
        RejectedRecord("line 6", "too-large", "2002 bytes", "at most 1000 bytes"),
    ]


def test_a_quote_that_is_never_closed_costs_one_row():
    assert rules(read("a.csv", b'text\nfine\n"never closed\n')) == ["ok", "not-csv"]


@pytest.mark.parametrize("before", [0, 3])
def test_a_quote_that_is_never_closed_costs_its_row_and_tears_no_text_to_rows(before: int):
    rows = [f"{n},{text}" for n, text in enumerate(["第一篇", "second"] * 5)]
    whole = ["id,text", *rows[:before], '7,"没有 closed', *rows[before:]]
    found = rules(read("a.csv", ("\n".join(whole) + "\n").encode(), id_field="id"))
    assert found == ["ok"] * before + ["not-csv"] + ["ok"] * (10 - before)
    # Its lines are no rows.
    text = 'id,text\n1,x\n2,"它说：\nyes, it said, and\nmore'
    assert rules(read("a.csv", text.encode())) == ["ok", "not-csv"]


@pytest.mark.parametrize(
    "sheet",
    [
        "id,text\r1,第一行\r2,second\r",
        "\r\n\nid,text\n\n1,第一行\n2,second\n",
        "id, text\n1, 第一行\n2, second\n",
        '"id"; "text"\n1; "第一行"\n2; "second"\n',
        " id\t text \n1\t第一行\n2\tsecond\n",
    ],
)
def test_lines_of_old_macs_and_spaces_around_cells_are_read(sheet: str):
    found = read("a.csv", sheet.encode(), id_field="id")
    assert found == [Record(1, "第一行", "1"), Record(2, "second", "2")]
    packed = read("a.csv.gz", gzip.compress(sheet.encode("gbk")), id_field="id", encoding="gbk")
    assert packed == found


@pytest.mark.parametrize("name", ["a.csv", "a.parquet"])
def test_a_table_without_the_column_is_one_record(name: str):
    data = b"a,b\n1,2\n3,4\n" if name == "a.csv" else parquet(a=[1, 2], b=["x", "y"])
    assert read(name, data) == [RejectedRecord("", "no-text", "columns a, b", "a column text")]


def test_parquet_rows_are_checked_one_by_one():
    text = pa.array([b"good", b"\xff", None, b"", b"x" * 2000, "好".encode()], pa.binary()).view(pa.string())
    found = read("a.parquet", parquet(id=[f"i{n}" for n in range(6)], text=text), id_field="id")
    assert rules(found) == ["ok", "invalid-utf8", "no-text", "no-text", "too-large", "ok"]
    assert found[-1] == Record(6, "好", "i5")


@pytest.mark.parametrize("kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())])
def test_every_kind_of_text_column_is_read(kind: pa.DataType):
    column = pa.array(["甲", "乙", "甲"], pa.string()).cast(kind)
    assert [item.text for item in read("a.parquet", parquet(text=column)) if isinstance(item, Record)] == [
        "甲",
        "乙",
        "甲",
    ]


def test_a_packed_parquet_file_is_read():
    assert read("a.parquet.gz", gzip.compress(parquet(text=["好"]))) == [Record(1, "好")]


def test_a_column_of_numbers_is_no_text():
    assert rules(read("a.parquet", parquet(text=[1, 2]))) == ["no-text", "no-text"]


@given(st.lists(VISIBLE, min_size=1, max_size=8))
def test_texts_survive_every_format(texts: list[str]):
    sheet = io.StringIO(newline="")
    writer = csv.writer(sheet, quoting=csv.QUOTE_ALL)
    writer.writerows([["text"], *([text] for text in texts)])
    expected = [Record(number, text) for number, text in enumerate(texts, 1)]
    assert read("a.jsonl", jsonl(*({"text": text} for text in texts))) == expected
    assert read("a.parquet", parquet(text=texts)) == expected
    assert read("a.csv", sheet.getvalue().encode()) == expected


@given(st.lists(st.text(max_size=8), min_size=1, max_size=5), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_arrow_reads_csv_as_python_does(texts: list[str], end: str, quoted: bool):
    sheet = io.StringIO(newline="")
    writer = csv.writer(sheet, lineterminator=end, quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL)
    writer.writerows([["id", "text"], *([str(row), text.replace("\r", "")] for row, text in enumerate(texts))])
    data = sheet.getvalue().encode("utf-8", "surrogatepass")
    assert read("a.csv", data, id_field="id") == read("a.csv", data + b'8,"never closed', id_field="id")[: len(texts)]


LINE = st.sampled_from(
    [
        '{"text": "好", "id": "k"}',
        '{"text": "a\\u4e2d", "id": 3}',
        '{"id": null, "text": "x", "more": [{"a": 1}]}',
        "{}",
        '{"text": "  "}',
        '{"text": "\\u0000"}',
        '{"text": 5}',
        '{"text": "\\ud83d"}',
        '{"text":',
        '"x"}',
        "[]",
        "",
        "}",
        "{",
        '{"text": "a"} {"text": "b"}',
        '{"text": "1", "text": "2"}',
        '{"te\\u0078t": "e"}',
        '{"text": "n", "n": NaN}',
    ]
)


@given(st.lists(LINE, max_size=12), st.sampled_from(["\n", "\r\n"]), st.integers(1, 200))
@settings(max_examples=300)
def test_a_line_is_read_alike_whatever_stands_beside_it(lines: list[str], end: str, batch_bytes: int):
    """So that neither the fast path nor where a batch is cut ever shows."""
    # By the first line it is known that lines are read at all.
    lines = [FIRST, *lines]
    data = "".join(line + end for line in lines).encode()
    together = read("a.jsonl", data, id_field="id", batch_bytes=batch_bytes)
    alone = [replace_place(item, row) for row, line in enumerate(lines, 1) for item in read_one(line + end)]
    assert together == alone


FIRST = '{"text": "first"}'


def read_one(line: str) -> list[Record | RejectedRecord]:
    found = read("a.jsonl", f"{FIRST}\n{line}broken".encode(), id_field="id")
    return [item for item in found if number(item) == 2]


def replace_place(item: Record | RejectedRecord, row: int) -> Record | RejectedRecord:
    return replace(item, number=row) if isinstance(item, Record) else replace(item, place=f"line {row}")


NESTED = [
    {"meta": {"title": "题", "n": 1}, "text": "文"},
    {"text": "only"},
    {"meta": {"title": ""}},
    {"meta": "flat", "text": "x"},
]


@pytest.mark.parametrize("count", [2, 4])
def test_fields_may_be_nested_and_several_are_joined_by_a_blank_line(count: int):
    rows = [row | {"meta": row.get("meta")} for row in NESTED[:count]]
    found = read("a.jsonl", jsonl(*rows), text_fields=("meta.title", "text"), id_field="meta.n")
    joined = [
        Record(1, "题\n\n文", "1"),
        Record(2, "only"),
        RejectedRecord("line 3", "no-text", "an empty text", "a text"),
        Record(4, "x"),
    ]
    assert found == joined[:count]
    table = parquet(meta=[row.get("meta") for row in rows[:2]], text=[row["text"] for row in rows[:2]])
    assert read("a.parquet", table, text_fields=("meta.title", "text"), id_field="meta.n") == joined[:2]


def test_a_field_of_several_that_is_no_text_is_on_record():
    found = read("a.jsonl", jsonl({"title": 5, "text": "文"}, {"text": "x"}), text_fields=("title", "text"))
    assert found == [RejectedRecord("line 1", "no-text", "a int", "a text"), Record(2, "x")]
    assert rules(read("a.csv", b"title,text\nt,x\n", text_fields=("title", "text"))) == ["ok"]
    assert read("a.csv", b"text\nx\n", text_fields=("title", "text")) == [
        RejectedRecord("", "no-text", "columns text", "a column title")
    ]


@pytest.mark.parametrize("new", [pa.ipc.new_stream, pa.ipc.new_file])
def test_arrow_streams_and_files_are_read(new: Any):
    table = pa.table({"id": [7, 8, 9], "text": ["甲", "", "乙"]})
    sink = io.BytesIO()
    with new(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)
    found = read("data-00000-of-00001.arrow", sink.getvalue(), id_field="id")
    assert found == [
        Record(1, "甲", "7"),
        RejectedRecord("row 2", "no-text", "an empty text", "a text"),
        Record(3, "乙", "9"),
    ]
    assert read("a.arrow", sink.getvalue(), text_fields=("body",)) == [
        RejectedRecord("", "no-text", "columns id, text", "a column body")
    ]


def test_a_record_without_any_of_several_fields_is_on_record_and_shifts_no_other():
    lines = b'{"id": "1", "a": "x"}\n{"id": "2", "c": "y"}\n{"id": "3", "b": "z"}\n'
    wanted = ReadOptions(max_document_bytes=100, text_fields=("a", "b"), id_field="id")
    (batch,) = files.read(lambda: io.BytesIO(lines), "x.jsonl", wanted)
    assert batch.table.select(["id", "text"]).to_pylist() == [{"id": "1", "text": "x"}, {"id": "3", "text": "z"}]
    assert [(bad.place, bad.rule) for bad in batch.rejected] == [("line 2", "no-text")]
