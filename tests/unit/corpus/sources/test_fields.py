"""A name of a field means the same in every format."""

import csv
import io
import json
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.corpus.sources import files
from slimpajama.corpus.sources.fields import field_of
from slimpajama.corpus.sources.html import field_text
from slimpajama.corpus.sources.records import ReadOptions

Row = dict[str, Any]


def read(name: str, data: bytes, *fields: str, **options: Any) -> dict[int, str]:
    """Return texts, and rules of what is no text, by number."""
    found = {}
    wanted = ReadOptions(max_document_bytes=100_000, text_fields=fields, **options)
    for batch in files.read(lambda: io.BytesIO(data), name, wanted):
        ids = [f"{own}: " if own else "" for own in batch.table["id"].to_pylist()]
        texts = zip(batch.table["number"].to_pylist(), ids, batch.table["text"].to_pylist(), strict=True)
        found |= {number: own + text for number, own, text in texts}
        found |= {int(bad.place.split()[-1] if bad.place else 0): bad.rule for bad in batch.rejected}
    return dict(sorted(found.items()))


def jsonl(rows: list[Row]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def tables(rows: list[Row], schema: pa.Schema | None = None) -> dict[str, bytes]:
    table = pa.Table.from_pylist(rows, schema)
    sink, stream = io.BytesIO(), io.BytesIO()
    pq.write_table(table, sink)
    with pa.ipc.new_stream(stream, table.schema) as writer:
        writer.write_table(table)
    return {"a.parquet": sink.getvalue(), "a.arrow": stream.getvalue()}


def everywhere(rows: list[Row], *fields: str, **options: Any) -> dict[int, str]:
    """Read rows in every format with nested fields; they say the same."""
    expected = read("a.jsonl", jsonl(rows), *fields, **options)
    # A bad line sends every other one the slow way.
    assert read("a.jsonl", jsonl(rows) + b"bad\n", *fields, **options) == expected | {len(rows) + 1: "not-json"}
    assert read("a.json", json.dumps(rows).encode(), *fields, **options) == expected
    for name, data in tables(rows).items():
        assert read(name, data, *fields, **options) == expected
    return expected


PARAGRAPHS = [
    {"名": f"{n}.txt", "段落": [{"行号": i, "是否重复": False, "内容": f"第{n}篇第{i}段。"} for i in range(n)]}
    for n in range(1, 4)
]


@pytest.mark.parametrize("field", ["段落.内容", "段落[].内容"])
def test_the_texts_of_a_list_are_joined_by_line_breaks(field: str):
    found = everywhere(PARAGRAPHS, field, id_field="名")
    assert found == {n: f"{n}.txt: " + "\n".join(f"第{n}篇第{i}段。" for i in range(n)) for n in (1, 2, 3)}
    assert everywhere(PARAGRAPHS[:1], "名", field) == {1: "1.txt\n\n第1篇第0段。"}


def test_paragraphs_that_are_missing_null_or_empty_are_passed_over():
    rows = [{"p": [{"t": "a"}, {"t": None}, {"t": ""}, None, {"t": "b"}]}, {"p": [{"t": None}]}, {"p": None}]
    assert everywhere(rows, "p.t") == {1: "a\nb", 2: "no-text", 3: "no-text"}
    assert read("a.jsonl", jsonl([{"p": [{"t": "a"}, {}, 5, {"t": 5}]}, {"p": []}, {"p": {"t": "one"}}]), "p[].t") == {
        1: "no-text",
        2: "no-text",
        3: "one",
    }


def test_a_list_of_texts_is_a_text_only_where_it_is_asked_for():
    rows = [{"lines": ["第一行", "second"]}, {"lines": ["x"]}]
    assert everywhere(rows, "lines[]") == {1: "第一行\nsecond", 2: "x"}
    assert everywhere(rows, "lines") == {1: "no-text", 2: "no-text"}
    assert everywhere([{"a": [{"b": ["x", "y"]}, {"b": ["z"]}]}], "a.b[]") == {1: "x\ny\nz"}


def test_a_key_with_a_dot_goes_before_the_path_in_every_format():
    rows = [{"a.text": "甲", "a": {"text": "nested"}}, {"a.text": "乙", "a": None}]
    assert everywhere(rows, "a.text") == {1: "甲", 2: "乙"}
    assert everywhere([row | {"a": "flat"} for row in rows], "a.text", id_field="a") == {1: "flat: 甲", 2: "flat: 乙"}
    assert everywhere([{"a.text": "甲"}, {"a.text": "乙"}], "a.text") == {1: "甲", 2: "乙"}
    sheet = io.StringIO()
    csv.writer(sheet).writerows([["a.text", "a"], ["甲", "x"], ["乙", "y"]])
    assert read("a.csv", sheet.getvalue().encode(), "a.text", id_field="a") == {1: "x: 甲", 2: "y: 乙"}


def test_where_the_key_with_a_dot_is_null_or_missing_the_path_is_taken():
    rows = [{"a.text": None, "a": {"text": "nested"}}, {"a.text": "flat", "a": {"text": "x"}}]
    assert everywhere(rows, "a.text") == {1: "nested", 2: "flat"}
    mixed = [{"a.text": "flat"}, {"a": {"text": "nested"}}, {"a": {"b": {"c": "deep"}}}, {"a": {"b.c": "inner"}}]
    assert read("a.jsonl", jsonl(mixed), "a.text") == {1: "flat", 2: "nested", 3: "no-text", 4: "no-text"}
    assert everywhere([{"a": {"b": {"c": "deep"}}}], "a.b.c") == {1: "deep"}
    assert everywhere([{"a": {"b.c": "inner"}}], "a.b.c") == {1: "inner"}
    assert everywhere([{"a.b": {"c": "outer"}}], "a.b.c") == {1: "outer"}


LEAF = st.sampled_from(["x", "好", "", None])
VALUE = st.one_of(
    st.lists(st.fixed_dictionaries({"c": LEAF}), max_size=2).map(lambda found: {"b": found}),
    st.fixed_dictionaries({"b": st.fixed_dictionaries({"c": LEAF}), "b.c": LEAF}),
)


@given(
    st.lists(
        st.fixed_dictionaries({}, optional={"a": VALUE, "a.b.c": LEAF, "a.b": st.fixed_dictionaries({"c": LEAF})})
    ),
    st.sampled_from(["a.b.c", "a[].b[].c", "a.b"]),
)
@settings(max_examples=200)
def test_lines_are_read_alike_by_columns_and_one_by_one(rows: list[Row], field: str):
    rows = [{"a.b.c": "first"}, *rows]
    together = read("a.jsonl", jsonl(rows), field)
    alone = [read("a.jsonl", jsonl([row]) + b"bad\n", field)[1] for row in rows]
    assert together == dict(enumerate(alone, 1))


def test_bytes_in_a_list_that_are_no_text_cost_their_row():
    texts = pa.array([b"good", b"\xff", "好".encode()], pa.binary()).view(pa.string())
    lists = pa.ListArray.from_arrays([0, 2, 3], pa.StructArray.from_arrays([texts], ["t"]))
    sink = io.BytesIO()
    pq.write_table(pa.table({"p": lists}), sink)
    assert read("a.parquet", sink.getvalue(), "p.t") == {1: "invalid-utf8", 2: "好"}


def test_a_name_that_leads_nowhere_is_one_record_of_a_table():
    for name, data in tables([{"a": [{"b": "x"}]}]).items():
        assert read(name, data, "a.c") == {0: "no-text"}
    assert field_of({"a": [{"b": 1}]}, "a.c") is None
    assert field_of([1], "a") is None


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("a &amp; b &#x4e2d;&lt;p&gt;\n\n第二段", "a & b 中<p>\n\n第二段"),
        ("<p>第一段</p>\n<p>second &nbsp;one<br>line</p><script>x</script>", "第一段\nsecond \xa0one\nline"),
        ("<b>粗</b>体\n<a href='x\ny'>link</a>", "粗体\nlink"),
        ("if x<y and y>z then 1 < 2", "if x<y and y>z then 1 < 2"),
        ("plain", "plain"),
    ],
)
def test_of_html_in_a_field_what_a_reader_sees_is_taken(field: str, expected: str):
    assert field_text(field) == expected
    assert everywhere([{"p": [{"t": field}]}], "p.t", html=True) == {1: expected}
    assert everywhere([{"t": field}], "t", html=True) == {1: expected}
    assert everywhere([{"t": field}], "t") == {1: field}
    sheet = io.StringIO()
    csv.writer(sheet).writerows([["t"], [field]])
    assert read("a.csv", sheet.getvalue().encode(), "t", html=True) == {1: expected}


def test_html_in_a_field_that_is_empty_or_too_deep_is_on_record():
    assert everywhere([{"t": "<p> </p>"}, {"t": "<div>" * 10_000}], "t", html=True) == {1: "no-text", 2: "too-deep"}
