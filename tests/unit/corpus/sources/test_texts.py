"""Plain text in other forms: lines, paragraphs, dumps of wikis, subtitles, Markdown."""

import gzip
import io
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slimpajama.corpus.sources import files
from slimpajama.corpus.sources.records import ReadOptions
from slimpajama.corpus.sources.texts import spoken, without_front_matter


def read(name: str, data: bytes | str, limit: int = 1000, **options: Any) -> list[tuple[str, str]]:
    """Return number and text, or place and rule, of all records in order."""
    raw = data.encode() if isinstance(data, str) else data
    found: list[tuple[int, str, str]] = []
    for batch in files.read(lambda: io.BytesIO(raw), name, ReadOptions(max_document_bytes=limit, **options)):
        rows = batch.table.select(["number", "id", "text"]).to_pylist()
        found += [(row["number"], row["id"] or str(row["number"]), row["text"]) for row in rows]
        found += [(int(bad.place.split()[-1]) if bad.place else 1 << 40, bad.place, bad.rule) for bad in batch.rejected]
    return [(place, text) for _, place, text in sorted(found)]


TEXT = "\ufeff第一段，\r\n还是第一段。\r\n\r\n \nSecond paragraph.\n\n\n第三段"


def test_a_text_is_one_document_a_file_a_line_or_a_block_of_lines():
    assert read("a.txt", TEXT) == [("1", TEXT[1:])]
    lines = [("1", "第一段，"), ("2", "还是第一段。"), ("5", "Second paragraph."), ("8", "第三段")]
    assert read("a.txt", TEXT, split="line") == lines
    blocks = [("1", "第一段，\n还是第一段。"), ("5", "Second paragraph."), ("8", "第三段")]
    assert read("a.txt", TEXT, split="blank") == blocks
    assert read("a.txt.gz", gzip.compress(TEXT.encode()), split="blank", batch_bytes=3) == blocks


@pytest.mark.parametrize("split", ["line", "blank"])
def test_a_bad_line_or_block_costs_itself(split: str):
    data = "好\n\n".encode() + b"\xff\xfe\n\n" + b"x" * 3000 + b"\n\na\0b\n\nend"
    assert read("a.txt", data, split=split) == [
        ("1", "好"),
        ("line 3", "invalid-utf8"),
        ("line 5", "too-large"),
        ("line 7", "has-nul"),
        ("9", "end"),
    ]
    assert read("a.txt", " \n\n", split=split) == [("", "empty-file")]


def test_a_block_beyond_the_bound_is_measured_and_the_next_one_read():
    data = (b"a line of text " * 3000 + b"\n") * 400 + b"\nend\n"
    tracemalloc.start()
    assert read("a.txt", data, 10_000, split="blank") == [("line 1", "too-large"), ("402", "end")]
    assert tracemalloc.get_traced_memory()[1] < 8e6
    tracemalloc.stop()


PARAGRAPHS = st.lists(st.sampled_from(["一行", "two\nlines", "x", "三 \n行 "]), max_size=6)


@given(PARAGRAPHS, st.sampled_from(["\n\n", "\n \n", "\n\n\n"]), st.integers(1, 40))
def test_blocks_do_not_depend_on_where_a_file_is_cut(paragraphs: list[str], between: str, batch_bytes: int):
    data = between.join(paragraphs)
    texts = [text for _, text in read("a.txt", data, split="blank", batch_bytes=batch_bytes)]
    assert texts == (paragraphs or ["empty-file"])


WIKI = """<doc id="13" url="https://zh.wikipedia.org/wiki?curid=13" title="数学">
数学

数学是研究数量的学科。1 &lt; 2 &amp;&amp; 3

</doc>
<doc id="18" url="https://en.wikipedia.org/wiki?curid=18" title="Philosophy &quot;x&quot;">
Philosophy

Philosophy is a study.
</doc>
"""
DOCS = [("13", "数学\n\n数学是研究数量的学科。1 < 2 && 3"), ("18", "Philosophy\n\nPhilosophy is a study.")]


def test_each_doc_of_a_wiki_dump_is_a_document():
    assert read("extracted/AA/wiki_00", WIKI) == DOCS
    assert read("wiki_01.gz", gzip.compress(WIKI.replace("\n", "\r\n").encode()))[1][0] == "18"
    assert read("dump.txt", WIKI, format="wiki", batch_bytes=7) == DOCS
    lines = "".join(json.dumps({"id": key, "text": text}) + "\n" for key, text in DOCS)
    assert read("wiki_02", lines, id_field="id") == DOCS


def test_what_is_wrong_in_a_wiki_dump_costs_its_document():
    cut = WIKI.replace("</doc>", "", 1)
    assert read("wiki_00", cut) == [("record 1", "truncated"), DOCS[1]]
    assert read("wiki_00", WIKI[:-8]) == [DOCS[0], ("record 2", "truncated")]
    assert read("wiki_00", f"more\nof it\n{WIKI}rest\n") == [*DOCS, *[("", "unreadable")] * 2]
    assert read("wiki_00", WIKI.replace("数量", "数量" * 300)) == [("record 1", "too-large"), DOCS[1]]
    assert read("wiki_00", WIKI.encode().replace("数量".encode(), b"\xff")) == [("record 1", "invalid-utf8"), DOCS[1]]
    assert read("wiki_00", '<doc id="1">\n\n</doc>\n') == [("record 1", "no-text")]


SRT = """1
00:00:01,000 --> 00:00:03,500
{\\an8}<i>你好，世界。</i>
Hello, <font color="#fff">world</font>.

2
00:00:04,000 --> 00:00:05,000
42

3
00:01:04,000 --> 00:01:05,000 X1:0

第二句 &amp; more
"""
VTT = """WEBVTT - title

STYLE
::cue { color: red }

NOTE a comment
of two lines

intro
00:01.000 --> 00:03.500 align:start
<v 张三>你好，<c.x>世界</c>。</v>

00:00:04.000 --> 00:00:05.000
你好，世界。
<00:00:04.500>Hello &amp; more
"""
ASS = """[Script Info]
Title: x
[V4+ Styles]
Format: Name, Fontname
Style: Default,Arial
[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
Comment: 0,0:00:00.00,0:00:01.00,Default,,0,0,0,,not said
Dialogue: 0,0:00:01.00,0:00:03.50,Default,,0,0,0,,{\\fad(1,2)}你好，世界。\\NHello, world, again
Dialogue: 1,0:00:01.00,0:00:03.50,Default,,0,0,0,,{\\blur3}你好，世界。\\NHello, world, again
Dialogue: 0,0:00:01.00,0:00:03.50,Default,,0,0,0,,{\\p1}m 0 0 l 10 10{\\p0}
Dialogue: 0,0:00:04.00,0:00:05.00,Default,,0,0,0,,a\\hb
"""


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("a.srt", SRT, "你好，世界。\nHello, world.\n42\n第二句 & more"),
        ("a.srt", SRT.replace("\n", "\r\n"), "你好，世界。\nHello, world.\n42\n第二句 & more"),
        (
            "a.srt",
            SRT.replace("\n\n2", "\n2").replace("\n\n3", "\n3"),
            "你好，世界。\nHello, world.\n42\n第二句 & more",
        ),
        ("a.vtt", VTT, "你好，世界。\nHello & more"),
        ("a.ass", ASS, "你好，世界。\nHello, world, again\na b"),
    ],
)
def test_of_subtitles_what_is_said_stays(name: str, data: str, expected: str):
    assert read(name, data, 10_000) == [("1", expected)]


def test_subtitles_that_say_nothing_are_on_record():
    assert read("a.srt", "1\n00:00:01,000 --> 00:00:03,500\n\n") == [("", "no-text")]
    assert spoken("no times here --> or there") == ""


BODY = "# 标题\n\n正文。\n\n---\n\nmore: text\n\n---\n"


@pytest.mark.parametrize(
    ("front", "stays"),
    [
        ("---\ntitle: 标题\ntags:\n  - a\n- b\n# note\ndate: 2024-01-01\n---\n\n", ""),
        ("---\r\ntitle: x\r\n---\r\n", ""),
        ("+++\ntitle = 'x'\n[extra]\na=1\n+++\n", ""),
        ("---\ntitle: x\n...\n", ""),
        ("---\n---\n", ""),
        ("---\nA sentence between two rules.\n---\n", "---\nA sentence between two rules.\n---\n"),
        ("---\ntitle: never ended\n\nA sentence.\n", "---\ntitle: never ended\n\nA sentence.\n"),
        ("", ""),
    ],
)
def test_front_matter_goes_and_the_text_stays(front: str, stays: str):
    assert without_front_matter(front + BODY) == stays + BODY
    assert read("a.md", front + BODY) == [("1", stays + BODY)]
    assert read("a.md", front + BODY, format="txt") == [("1", front + BODY)]


@pytest.mark.parametrize(
    "hostile", ["---\n" + " " * 60_000 + "x", "---\n" * 20_000, "<" * 60_000, "{" * 60_000, "0:0" * 20_000 + "-->"]
)
def test_hostile_texts_are_read_in_linear_time(hostile: str):
    assert without_front_matter(hostile) is not None
    assert spoken(f"1\n00:01.0 --> 00:02.0\n{hostile}") is not None
    assert spoken(f"[Events]\nDialogue: ,,,,,,,,,{hostile}") is not None
