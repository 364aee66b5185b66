"""Pairs out of every format, in both languages, and what is said of files that are damaged or hostile."""

import gzip
import io
import json
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.core.config import PairSourceConfig
from slimpajama.corpus.pairs.records import FORMATS, Pair, read_pairs
from slimpajama.corpus.sources.formats import format_of
from slimpajama.corpus.sources.records import RejectedRecord

EN, ZH = "The quick brown fox.", "敏捷的棕色狐狸。"


def source(**settings):
    return PairSourceConfig(**{"name": "mine", "uri": "x", "task": "translation"} | settings)


def read(data, name, **settings):
    return list(read_pairs(lambda: io.BytesIO(data), name, source(**settings)))


def lines(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def parquet(*rows):
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows)), sink)
    return sink.getvalue()


ROW = {"source": EN, "target": ZH, "group": "guide"}
ARROW = io.BytesIO()
with pa.ipc.new_stream(ARROW, pa.Table.from_pylist([ROW]).schema) as writer:
    writer.write_table(pa.Table.from_pylist([ROW]))
TMX = f"""<?xml version="1.0"?><tmx version="1.4"><header/><body>
<tu><tuv xml:lang="en-US"><seg>The <bpt i="1">&lt;b&gt;</bpt>quick<ept i="1">&lt;/b&gt;</ept> brown fox.</seg></tuv>
<tuv xml:lang="zh_CN"><seg>{ZH}</seg></tuv></tu></body></tmx>""".encode()
PO = (
    f'msgid ""\nmsgstr "Content-Type: text/plain; charset=UTF-8\\n"\n\nmsgid "{EN}"\nmsgstr "{ZH}"\n\n'
    f'#, fuzzy\nmsgid "fuzzy"\nmsgstr "模糊"\n\nmsgid "file"\nmsgid_plural "files"\nmsgstr[0] "文件"\n'
)


def compiled(messages):
    """Return a catalogue of messages in the order of their ids (GNU gettext's manual, 10.3)."""
    ids, texts = ([text.encode() for text in side] for side in zip(*sorted(messages.items()), strict=True))
    n, place, table, data = len(ids), 28 + 16 * len(ids), b"", b""
    for side in (ids, texts):
        for text in side:
            table += struct.pack("<II", len(text), place + len(data))
            data += text + b"\0"
    return struct.pack("<7I", 0x950412DE, 0, n, 28, 28 + 8 * n, 0, 0) + table + data


@pytest.mark.parametrize(
    ("name", "data", "group"),
    [
        ("a.jsonl", lines(ROW), "guide"),
        ("a.jsonl.gz", gzip.compress(lines(ROW), mtime=0), "guide"),
        ("a.csv", f'source,target,group\n"{EN}",{ZH},guide\n'.encode(), "guide"),
        ("a.tsv", f"{EN}\t{ZH}\n".encode(), ""),
        ("a.tsv", f"\ufeffgroup\tsource\ttarget\r\nguide\t{EN}\t{ZH}\r\n".encode(), "guide"),
        ("a.parquet", parquet(ROW), "guide"),
        ("a.parquet.gz", gzip.compress(parquet(ROW), mtime=0), "guide"),
        ("a.arrow", ARROW.getvalue(), "guide"),
        ("a.tmx", TMX, ""),
        ("a.po", PO.encode(), ""),
        ("a.mo", compiled({"": "Content-Type: text/plain; charset=UTF-8\n", EN: ZH}), ""),
    ],
)
def test_a_pair_is_read_from_every_format(name, data, group):
    (pair,) = read(data, name)
    assert (pair.source, pair.targets, pair.group) == (EN, (ZH,), group)


def test_a_fields_name_leads_into_nested_records():
    row = {"src": EN, "tgt": ZH, "meta": {"path": "a.po"}}
    fields = {"source": "src", "target": "tgt", "group": "meta.path"}
    for name, data in (("a.jsonl", lines(row)), ("a.parquet", parquet(row))):
        assert read(data, name, fields=fields) == [
            Pair(f"{'line' if 'json' in name else 'row'} 1", EN, (ZH,), "", "a.po")
        ]


SQUAD = {
    "data": [
        {
            "title": "城市",
            "paragraphs": [
                {
                    "context": "北京是首都。",
                    "qas": [
                        {"id": "1", "question": "首都是哪里？", "answers": [{"text": "北京"}, {"text": "北京"}]},
                        {"id": "2", "question": "无解？", "answers": []},
                    ],
                }
            ],
        }
    ]
}


def test_questions_of_one_title_belong_together_and_equal_answers_count_once():
    asked, unanswered = read(lines(SQUAD), "drcd.json", task="question-answering")
    assert asked == Pair("question 1", "北京是首都。", ("北京",), "首都是哪里？", "城市")
    assert unanswered.targets == ()


def test_answers_of_a_row_may_be_a_text_a_list_or_squads_columns():
    for answers in ("Beijing", ["Beijing"], {"text": ["Beijing"], "answer_start": [0]}, [{"text": "Beijing"}]):
        (pair,) = read(lines({"source": "p", "question": "q", "target": answers}), "a.jsonl", task="question-answering")
        assert pair.targets == ("Beijing",)


def test_a_translation_memory_gives_the_languages_that_are_asked_for_the_other_way_round_too():
    (pair,) = read(TMX, "a.tmx", languages=("zh", "en"))
    assert (pair.source, pair.targets) == (ZH, (EN,))
    (lost,) = read(TMX, "a.tmx", languages=("en", "fr"))
    assert lost.targets == ("",)  # `empty-side` says so


@pytest.mark.parametrize(
    ("name", "data", "rule"),
    [
        ("a.jsonl", b'{"source": 1, "target": "a"}\n', "no-text"),
        ("a.jsonl", b'{"source": "a", "target": ["b", 1]}\n', "no-text"),
        ("a.jsonl", b'{"source": "\\ud800", "target": "a"}\n', "lone-surrogate"),
        ("a.jsonl", b"[" * 2000 + b"\n", "not-json"),
        ("a.jsonl", b"\xff\n", "invalid-utf8"),
        ("a.jsonl.gz", gzip.compress(lines(ROW), mtime=0)[:-9], "truncated"),
        ("a.csv", b"source,target\n\xff,a\n", "unreadable"),
        ("a.tsv", b"\xff\ta\n", "invalid-utf8"),
        ("a.tsv", b"one cell\n", "no-text"),
        ("a.parquet", b"PAR1 no", "unreadable"),
        ("a.arrow", b"ARROW1 no", "unreadable"),
        ("a.json", b"[]", "not-json"),
        ("a.json", b"{}", "empty-file"),
        ("a.tmx", TMX[:-20], "damaged"),
        (
            "a.tmx",
            b'<!DOCTYPE t [<!ENTITY a SYSTEM "file:///etc/passwd">]><tmx><tu><tuv xml:lang="en"><seg>&a;</seg>'
            b"</tuv></tu></tmx>",
            "damaged",
        ),
        ("a.po", b"msgid", "damaged"),
        ("a.po", b"/etc/passwd", "damaged"),
        ("a.mo", b"/etc/passwd", "damaged"),
        ("a.mo", compiled({"a": "b"})[:30], "damaged"),
        ("a.xyz", b"", "unknown-format"),
        ("a.jsonl", b"", "empty-file"),
    ],
)
def test_what_cannot_be_read_is_told_by_its_rule(name, data, rule):
    found = read(data, name)
    assert [item.rule for item in found if isinstance(item, RejectedRecord)] == [rule]


def test_offsets_that_lead_out_of_an_arrow_file_are_not_followed():
    data = ARROW.getvalue()
    # The column's two offsets stand before its text.
    place = data.index(EN.encode()) - 8
    assert data[place : place + 8] == struct.pack("<2i", 0, len(EN))
    (bad,) = read(data[:place] + struct.pack("<2i", -4, len(EN)) + data[place + 8 :], "a.arrow")
    assert (bad.rule, bad.value) == ("unreadable", "Column 0: In chunk 0: Invalid: Negative offsets in binary array")


def test_what_precedes_a_damage_is_read():
    data = gzip.compress(lines(*[ROW | {"source": f"{EN} {n}"} for n in range(3000)]), mtime=0)
    *pairs, bad = read(data[: len(data) // 2], "a.jsonl.gz")
    assert len(pairs) > 100
    assert bad.rule == "truncated"


def test_entities_that_would_grow_without_end_are_refused():
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 20 if n else "x" * 1000}">' for n in range(8))
    data = f'<!DOCTYPE t [{entities}]><tmx><tu><tuv xml:lang="en"><seg>&e7;</seg></tuv></tu></tmx>'.encode()
    assert [item.rule for item in read(data, "a.tmx")] == ["damaged"]


@given(st.binary(max_size=400), st.sampled_from([".jsonl", ".csv", ".tsv", ".parquet", ".json", ".tmx", ".po", ".mo"]))
def test_no_bytes_make_a_reader_fail(data, ending):
    for item in read(data, f"a{ending}"):
        assert isinstance(item, RejectedRecord) or (item.source + "".join(item.targets)).encode() is not None


def test_a_name_tells_the_format_through_packings_unless_it_is_given():
    assert format_of("a/b.TSV.zst", "auto", FORMATS) == "tsv"
    assert format_of("a/b.json", "jsonl", FORMATS) == "jsonl"
    assert format_of("nothing", "auto", FORMATS) == ""
