"""Sixty kinds of bad input and what is to become of each: for the tests, and for docs/bad-inputs.md, which lists them.

Files are made when a test wants them; none lies in the repository. `python tests/unit/bad_inputs.py` writes the pages.
"""

# ruff: noqa: E501 -- a table reads better a case a line

from __future__ import annotations

import bz2
import gzip
import io
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

# Bytes of a record in these tests.
LIMIT = 1_000_000
# What an archive may unpack to in these tests, whatever its size: a sixteenth of the real bound.
BOMB = 1 << 23
ZH, EN = "今天天气很好，我们去公园。", "The weather is fine today."
# Enough characters to tell an encoding by.
WIDE = ZH * 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """A file and what reading it gives."""

    group: str
    en: str
    zh: str
    name: str
    make: Callable[[], bytes]
    texts: tuple[str, ...] = ()
    bad: tuple[tuple[str, str, str], ...] = ()
    """Place, rule and the beginning of the value of each record in `removed`."""


def jsonl(*rows: Any) -> bytes:
    """Return rows as JSON lines; bytes as they are."""
    lines = (row if isinstance(row, bytes) else json.dumps({"text": row}, ensure_ascii=False).encode() for row in rows)
    return b"".join(line + b"\n" for line in lines)


def parquet(table: pa.Table, **options: Any) -> bytes:
    """Return a table as a Parquet file."""
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def arrow(table: pa.Table, new: Any = pa.ipc.new_stream) -> bytes:
    """Return a table as an Arrow stream or file."""
    sink = io.BytesIO()
    with new(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def table(*texts: Any, kind: Any = None) -> pa.Table:
    """Return a table of one column."""
    return pa.table({"text": pa.array(texts, kind)})


def contradiction() -> bytes:
    """Return a Parquet file whose schema knows no nulls and whose statistics count them."""
    optional, required = b"\x15\x0c\x25\x02\x18\x04text", b"\x15\x0c\x25\x00\x18\x04text"
    whole = parquet(table(ZH, None), store_schema=False)
    assert optional in whole
    return whole.replace(optional, required)


def varint(number: int) -> bytes:
    """Return an integer as thrift's compact protocol writes it."""
    zigzag, out = number << 1, b""
    while zigzag > 0x7F:
        out, zigzag = out + bytes([zigzag & 0x7F | 0x80]), zigzag >> 7
    return out + bytes([zigzag])


def nested_footer(depth: int) -> bytes:
    """Return a Parquet file whose schema is nested as deep as is asked for."""
    root, group = b"\x48\x06schema\x15\x02\x00", b"\x35\x00\x18\x01a\x15\x02\x00"
    elements = root + group * depth + b"\x15\x0c\x25\x00\x18\x04text\x00"
    count = depth + 2
    length = b""
    while count > 0x7F:
        length, count = length + bytes([count & 0x7F | 0x80]), count >> 7
    meta = b"\x15\x02\x19\xfc" + length + bytes([count]) + elements + b"\x16\x00\x19\x0c\x00"
    return b"PAR1" + meta + len(meta).to_bytes(4, "little") + b"PAR1"


def long_dictionary() -> bytes:
    """Return a kilobyte of Parquet whose 10,000 rows each name one text of two megabytes."""
    indices = pa.array([0] * 10_000, pa.int32())
    column = pa.DictionaryArray.from_arrays(indices, pa.array(["x" * 2_000_000]))
    return parquet(
        pa.table({"text": column}), compression="zstd", dictionary_pagesize_limit=1 << 30, store_schema=False
    )


def many_rows() -> bytes:
    """Return a few kilobytes of Parquet with a million rows."""
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 1_000_000, pa.int32()), pa.array(["x"]))
    return parquet(pa.table({"text": column}), compression="zstd")


def warc(*bodies: bytes, extra: int = 0) -> bytes:
    """Return responses as a WARC file whose lengths are wrong by `extra`."""
    out = b""
    for body in bodies:
        block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
        out += b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://example.org/\r\n"
        out += b"WARC-Date: 2024-01-01T00:00:00Z\r\nContent-Type: application/http; msgtype=response\r\n"
        out += b"Content-Length: %d\r\n\r\n" % (len(block) + extra) + block + b"\r\n\r\n"
    return out


def pages(n: int) -> tuple[str, ...]:
    """Return texts that do not pack away to nothing."""
    return tuple(f"{ZH}{EN} {n * n} {n * n * 7919 % 99_991}" for n in range(n))


LINES = pages(400)
WHOLE = jsonl(*LINES)


def _case(group: str) -> Callable[..., Case]:
    def make(
        en: str,
        zh: str,
        name: str,
        data: bytes | Callable[[], bytes],
        *bad: tuple[str, str, str],
        texts: tuple[str, ...] = (),
    ) -> Case:
        source = data if callable(data) else lambda: data
        return Case(group=group, en=en, zh=zh, name=name, make=source, texts=texts, bad=bad)

    return make


_e, _a, _j = _case("encodings"), _case("archives"), _case("json")
_c, _t, _h, _x = _case("csv"), _case("tables"), _case("html"), _case("text")
_utf8 = "invalid-utf8"

CASES: tuple[Case, ...] = (
    _e(
        "UTF-16 with a byte order mark",
        "带 BOM 的 UTF-16",
        "utf16.txt",
        ZH.encode("utf-16"),
        ("", _utf8, "bytes ff fe"),
    ),
    _e(
        "UTF-16 without one",
        "不带 BOM 的 UTF-16",
        "utf16le.txt",
        EN.encode("utf-16-le"),
        ("", "has-nul", "NUL at character 2"),
    ),
    _e("UTF-8 with a byte order mark", "带 BOM 的 UTF-8", "bom.txt", b"\xef\xbb\xbf" + ZH.encode(), texts=(ZH,)),
    _e("GBK", "GBK", "gbk.txt", ZH.encode("gbk"), ("", _utf8, "bytes bd f1")),
    _e(
        "GB18030 with four bytes", "四字节 GB18030", "gb18030.txt", "㐂䶵".encode("gb18030"), ("", _utf8, "bytes 81 39")
    ),
    _e("Big5", "Big5", "big5.txt", "今天天氣很好".encode("big5"), ("", _utf8, "bytes a4 b5")),
    _e("Latin-1", "Latin-1", "latin1.txt", "café".encode("latin-1"), ("", _utf8, "bytes e9")),
    _e(
        "a broken byte in the middle",
        "中间有坏字节",
        "broken.txt",
        ZH.encode()[:7] + ZH.encode()[8:],
        ("", _utf8, "bytes e5 a9 e6 b0 at byte 7"),
    ),
    _e("NUL bytes", "NUL 字节", "nul.txt", f"{ZH}\0{EN}".encode(), ("", "has-nul", "NUL at character 14")),
    _e(
        "overlong UTF-8",
        "过长编码的 UTF-8",
        "overlong.jsonl",
        jsonl(b'{"text": "\xc0\xaf"}', ZH),
        ("line 1", _utf8, "bytes c0 af"),
        texts=(ZH,),
    ),
    _e(
        "surrogates as three bytes each (CESU-8)",
        "CESU-8 代理对",
        "cesu.jsonl",
        jsonl(b'{"text": "\xed\xa0\xbd\xed\xb8\x80"}', EN),
        ("line 1", _utf8, "bytes ed a0"),
        texts=(EN,),
    ),
    # archives
    _a(
        "gzip cut in the middle",
        "截断的 gzip",
        "cut.jsonl.gz",
        lambda: gzip.compress(WHOLE, 0)[:-200],
        ("", "truncated", "Compressed file ended"),
        texts=LINES[:397],
    ),
    _a(
        "zstd cut in the middle",
        "截断的 zstd",
        "cut.jsonl.zst",
        lambda: zstandard.compress(WHOLE)[:-200],
        ("", "truncated", "the file ends inside a zstd frame"),
    ),
    _a(
        "bzip2 cut in the middle",
        "截断的 bzip2",
        "cut.jsonl.bz2",
        lambda: bz2.compress(WHOLE)[:-200],
        ("", "truncated", "the file ends inside a bz2 stream"),
    ),
    _a(
        "a bomb of one long line",
        "压缩炸弹：一行极长",
        "bomb.jsonl.zst",
        lambda: zstandard.compress(b'{"text": "' + bytes(20_000_000)),
        ("", "too-large", "unpacks to more than 200 times"),
    ),
    _a(
        "a bomb of many short lines",
        "压缩炸弹：许多短行",
        "lines.jsonl.zst",
        lambda: zstandard.compress(b"\n" * 20_000_000),
        ("", "too-large", "unpacks to more than 200 times"),
    ),
    _a(
        "packed twice",
        "压缩两次",
        "twice.txt.gz",
        lambda: gzip.compress(gzip.compress(ZH.encode(), mtime=0), mtime=0),
        ("", _utf8, "bytes 8b"),
    ),
    _a(
        "garbage after a gzip",
        "gzip 之后有垃圾",
        "tail.jsonl.gz",
        lambda: gzip.compress(jsonl(ZH)) + b"garbage",
        ("", "damaged", "Not a gzipped file"),
        texts=(ZH,),
    ),
    _a(
        "garbage after a bzip2",
        "bzip2 之后有垃圾",
        "tail.jsonl.bz2",
        lambda: bz2.compress(jsonl(ZH)) + b"garbage",
        ("", "damaged", "Invalid data stream"),
        texts=(ZH,),
    ),
    _a(
        "garbage after a zstd",
        "zstd 之后有垃圾",
        "tail.jsonl.zst",
        lambda: zstandard.compress(jsonl(ZH)) + b"garbage",
        ("", "damaged", "zstd decompress"),
        texts=(ZH,),
    ),
    _a(
        "a second part that is damaged",
        "第二段损坏",
        "second.jsonl.bz2",
        lambda: bz2.compress(jsonl(ZH)) + b"BZh9" + bz2.compress(jsonl(EN))[5:],
        ("", "damaged", "Invalid data stream"),
        texts=(ZH,),
    ),
    _a(
        "a name that promises another packing",
        "后缀与压缩不符",
        "wrong.txt.gz",
        lambda: zstandard.compress(ZH.encode()),
        ("", "damaged", "Not a gzipped file"),
    ),
    _a(
        "a packed file under a plain name",
        "压缩文件没有后缀",
        "plain.txt",
        lambda: gzip.compress(ZH.encode(), mtime=0),
        ("", _utf8, "bytes 8b"),
    ),
    _a("an empty archive", "空的压缩包", "empty.txt.gz", lambda: gzip.compress(b""), ("", "empty-file", "no record")),
    _a("an archive without a byte", "零字节的压缩包", "zero.jsonl.bz2", b"", ("", "empty-file", "no record")),
    _a("a kind that is not known", "未知的格式", "archive.tar", b"x", ("", "unknown-format", "archive.tar")),
    # JSON lines
    _j(
        "nested 10,000 deep",
        "嵌套一万层",
        "deep.jsonl",
        jsonl(b"[" * 10_000 + b"]" * 10_000, ZH),
        ("line 1", "not-json", "nested too deeply"),
        texts=(ZH,),
    ),
    _j(
        "numbers of 100,000 digits",
        "十万位的数字",
        "numbers.jsonl",
        jsonl(b'{"text": "x", "n": ' + b"9" * 100_000 + b"}"),
        texts=("x",),
    ),
    _j("a key twice", "重复的键", "twice.jsonl", jsonl(b'{"text": "one", "text": "two"}'), texts=("two",)),
    _j(
        "NaN and Infinity",
        "NaN 与 Infinity",
        "nan.jsonl",
        jsonl(b'{"text": NaN}', b'{"text": "x", "n": -Infinity}'),
        ("line 1", "no-text", "a float"),
        texts=("x",),
    ),
    _j(
        "half a surrogate pair as an escape",
        "半个代理对的转义",
        "half.jsonl",
        jsonl(b'{"text": "\\ud83d"}', ZH),
        ("line 1", "lone-surrogate", "U+D83D at character 1"),
        texts=(ZH,),
    ),
    _j(
        "NUL as an escape",
        "转义的 NUL",
        "nul.jsonl",
        jsonl(b'{"text": "a\\u0000"}', ZH),
        ("line 1", "has-nul", "NUL at character 2"),
        texts=(ZH,),
    ),
    _j(
        "text missing, null, a number, a list, empty",
        "正文缺失、null、数字、列表、空",
        "kinds.jsonl",
        jsonl(b"{}", b'{"text": null}', b'{"text": 5}', b'{"text": ["x"]}', b'{"text": ""}', ZH),
        ("line 1", "no-text", "no such field"),
        ("line 2", "no-text", "no such field"),
        ("line 3", "no-text", "a int"),
        ("line 4", "no-text", "a list"),
        ("line 5", "no-text", "an empty text"),
        texts=(ZH,),
    ),
    _j(
        "lines that are no objects",
        "不是对象的行",
        "values.jsonl",
        jsonl(b'"x"', b"[1]", b"5", ZH),
        ("line 1", "not-json", "a str"),
        ("line 2", "not-json", "a list"),
        ("line 3", "not-json", "a int"),
        texts=(ZH,),
    ),
    _j("a last line without an end", "最后一行没有换行", "end.jsonl", jsonl(ZH)[:-1], texts=(ZH,)),
    _j(
        "a last line that is cut",
        "最后一行被截断",
        "cut.jsonl",
        jsonl(ZH, EN)[:-5],
        ("line 2", "not-json", "Unterminated string"),
        texts=(ZH,),
    ),
    _j(
        "a line of 64 MB",
        "一行 64 MB",
        "long.jsonl",
        lambda: jsonl(b'{"text": "' + b"x" * 64_000_000 + b'"}', ZH),
        ("line 1", "too-large", "64000012 bytes"),
        texts=(ZH,),
    ),
    _j(
        "a byte order mark inside",
        "中间有 BOM",
        "bom.jsonl",
        jsonl(ZH, b"\xef\xbb\xbf" + jsonl(EN)[:-1]),
        texts=(ZH, EN),
    ),
    _j(
        "ends of lines as of Windows",
        "Windows 换行",
        "crlf.jsonl",
        jsonl(ZH, EN).replace(b"\n", b"\r\n"),
        texts=(ZH, EN),
    ),
    _j(
        "a comma at the end",
        "行尾逗号",
        "comma.jsonl",
        jsonl(jsonl(ZH)[:-1] + b",", EN),
        ("line 1", "not-json", "Extra data"),
        texts=(EN,),
    ),
    _j(
        "two objects in a line",
        "一行两个对象",
        "two.jsonl",
        jsonl(jsonl(ZH)[:-1] * 2, EN),
        ("line 1", "not-json", "Extra data"),
        texts=(EN,),
    ),
    # CSV
    _c(
        "a quote that is never closed",
        "引号未闭合",
        "quote.csv",
        f'text\n{ZH}\n"{EN}\n'.encode(),
        ("row 2", "not-csv", "unexpected end"),
        texts=(ZH,),
    ),
    _c(
        "a quote in the middle",
        "引号在中间",
        "middle.csv",
        f'text\n"a"b\n{ZH}\n'.encode(),
        ("row 1", "not-csv", "',' expected"),
        texts=(ZH,),
    ),
    _c(
        "rows of other lengths",
        "行长不一",
        "ragged.csv",
        f"id,text\n1\n2,{ZH},3,4\n3,{EN}\n".encode(),
        ("row 1", "no-text", "no such field"),
        texts=(ZH, EN),
    ),
    _c(
        "a NUL",
        "含 NUL",
        "nul.csv",
        f"text\na\0b\n{ZH}\n".encode(),
        ("row 1", "has-nul", "NUL at character 2"),
        texts=(ZH,),
    ),
    _c(
        "a field of 2 MB",
        "2 MB 的字段",
        "field.csv",
        f"text\n{'x' * 2_000_000}\n{ZH}\n".encode(),
        ("line 2", "too-large", "2000000 bytes"),
        texts=(ZH,),
    ),
    _c(
        "a field of 2 MB in many lines",
        "多行的 2 MB 字段",
        "lines.csv",
        f'text\n"{(EN + chr(10)) * 39_000}"\n{ZH}\n'.encode(),
        ("row 1", "not-csv", "field larger than field limit"),
        ("row 1964", "not-csv", "unexpected end"),
        texts=(EN,) * 1962,
    ),
    _c("no column of that name", "没有这一列", "column.csv", b"a,b\n1,2\n", ("", "no-text", "columns a, b")),
    _c("only a header", "只有表头", "header.csv", b"text\n", ("", "empty-file", "no record")),
    # Parquet, Arrow, WARC
    _t(
        "Parquet that is cut",
        "截断的 Parquet",
        "cut.parquet",
        lambda: parquet(table(*LINES))[:-100],
        ("", "unreadable", "no Parquet"),
    ),
    _t("no Parquet", "不是 Parquet", "no.parquet", ZH.encode(), ("", "unreadable", "no Parquet")),
    _t(
        "Parquet without rows",
        "零行的 Parquet",
        "rows.parquet",
        lambda: parquet(table(kind=pa.string())),
        ("", "empty-file", "no record"),
    ),
    _t(
        "a footer longer than the file",
        "尾部长度超过文件",
        "footer.parquet",
        b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1",
        ("", "unreadable", "no Parquet"),
    ),
    _t(
        "a schema nested 100,000 deep",
        "模式嵌套十万层",
        "nested.parquet",
        lambda: nested_footer(100_000),
        ("", "unreadable", "no Parquet"),
    ),
    _t(
        "statistics that contradict the schema",
        "统计与模式矛盾",
        "statistics.parquet",
        contradiction,
        ("row 1", "unreadable", "Definition level"),
    ),
    _t(
        "10,000 rows that share a text of 2 MB",
        "一万行共用 2 MB 的一段",
        "dictionary.parquet",
        long_dictionary,
        *((f"row {row}", "too-large", "2000000 bytes") for row in range(1, 9)),
        ("row 9", "too-large", "a row group of too many bytes"),
    ),
    _t(
        "a million rows in a kilobyte",
        "一千字节里一百万行",
        "many.parquet",
        many_rows,
        ("row 1", "too-large", "a row group of too many bytes"),
    ),
    _t(
        "a column of numbers",
        "一列数字",
        "numbers.parquet",
        lambda: parquet(table(1, 2)),
        ("row 1", "no-text", "a int"),
        ("row 2", "no-text", "a int"),
    ),
    _t("a column of lists", "一列列表", "lists.parquet", lambda: parquet(table(["x"])), ("row 1", "no-text", "a list")),
    _t(
        "a column of structs",
        "一列结构",
        "structs.parquet",
        lambda: parquet(table({"a": "x"})),
        ("row 1", "no-text", "a dict"),
    ),
    _t(
        "dictionaries and large texts",
        "字典与大字符串",
        "kinds.parquet",
        lambda: parquet(
            table(ZH, EN, ZH, kind=pa.large_string()).cast(
                pa.schema([("text", pa.dictionary(pa.int32(), pa.large_string()))])
            )
        ),
        texts=(ZH, EN, ZH),
    ),
    _t(
        "bytes that are no UTF-8 in a text column",
        "字符串列里不是 UTF-8",
        "bytes.parquet",
        lambda: parquet(pa.table({"text": pa.array([b"\xff", ZH.encode()]).view(pa.string())})),
        ("row 1", _utf8, "bytes ff"),
        texts=(ZH,),
    ),
    _t(
        "an Arrow file that is cut",
        "截断的 Arrow",
        "cut.arrow",
        lambda: arrow(table(*LINES))[:-3000],
        ("row 1", "unreadable", "Expected to be able"),
    ),
    _t("no Arrow", "不是 Arrow", "no.arrow", ZH.encode(), ("row 1", "unreadable", "")),
    _t(
        "a web archive that is cut",
        "截断的 WARC",
        "cut.warc",
        lambda: warc(b"<p>" + ZH.encode(), b"<p>" + EN.encode() * 9)[:-100],
        ("record 2", "truncated", "96 bytes fewer"),
        texts=(ZH,),
    ),
    _t(
        "a web archive of wrong lengths",
        "长度有误的 WARC",
        "length.warc",
        lambda: warc(b"<p>" + ZH.encode(), b"<p>x", extra=9999),
        ("record 1", "truncated", "9765 bytes fewer"),
    ),
    # HTML
    _h("100,000 open tags", "十万层嵌套", "deep.html", b"<div>" * 100_000, ("", "too-deep", "100000 tags")),
    _h("only a script", "只有脚本", "script.html", b"<script>let x = 1</script>", ("", "no-text", "an empty text")),
    _h("200,000 entities", "二十万个实体", "entities.html", b"<p>" + b"&lt;" * 200_000, texts=("<" * 200_000,)),
    _h("no end tags", "没有结束标签", "open.html", f"<p>{ZH}<p>{EN}".encode(), texts=(f"{ZH}\n{EN}",)),
    _h(
        "says GBK and is UTF-8",
        "自称 GBK，其实是 UTF-8",
        "lies.html",
        f"<meta charset=gbk><p>{WIDE}".encode(),
        texts=(WIDE,),
    ),
    _h(
        "says UTF-8 and is GBK",
        "自称 UTF-8，其实是 GBK",
        "gbk.html",
        f"<meta charset=utf-8><p>{ZH}".encode("gbk"),
        ("", _utf8, "bytes bd f1"),
    ),
    _h(
        "says UTF-16 and is UTF-8",
        "自称 UTF-16，其实是 UTF-8",
        "utf16.html",
        f"<meta charset=utf-16><p>{ZH}".encode(),
        texts=(ZH,),
    ),
    _h("UTF-16 with a byte order mark", "带 BOM 的 UTF-16 网页", "bom.html", f"<p>{ZH}".encode("utf-16"), texts=(ZH,)),
    _h(
        "an encoding of Python's alone",
        "只有 Python 认识的编码",
        "idna.html",
        b"<meta charset=idna><p>xn--" + b"a-" * 100_000,
        ("", _utf8, "encoding idna"),
    ),
    _h("a comment that is never closed", "注释未闭合", "comment.html", f"<p>{ZH}<!-- {EN}".encode(), texts=(ZH,)),
    _h(
        "a tag of 50,000 attributes",
        "五万个属性的标签",
        "attributes.html",
        lambda: b"<p " + b"".join(b"a%d=1 " % n for n in range(50_000)) + b">x",
        ("", "too-deep", "a tag of 50001 attributes"),
    ),
    _h(
        "a list of 20,000 options",
        "两万个选项的列表",
        "options.html",
        b"<select>" + b"<option>x</option>" * 20_000 + b"</select>",
        texts=("\n".join("x" * 20_000),),
    ),
    _h(
        "fonts that every paragraph opens again",
        "每段重开的字体标签",
        "fonts.html",
        lambda: "".join(("<p>", *(f"<font size={n}>" for n in range(1000)), "x<p>" * 5000)).encode(),
        ("", "too-deep", "6001 tags, 3000 to be open"),
    ),
)

TEXTS: tuple[tuple[str, str, str, str], ...] = (
    ("only combining marks", "只有组合符号", "\u0301\u0308\u0327" * 200, "language"),
    ("bidirectional controls", "双向控制符", "\u202e\u2066" * 200, "no-content"),
    ("zero-width characters", "零宽字符", "\u200b\u2060\ufeff" * 200, "no-content"),
    ("private use", "私用区字符", "\ue000\uf8ff" * 200, "no-content"),
    ("unassigned code points", "未分配的码位", "\u0378\u0379" * 200, "no-content"),
    ("noncharacters", "非字符", "\ufdd0\ufffe\uffff" * 200, "no-content"),
    ("10,000 times one character", "同一字符一万次", "好" * 10_000, ""),
    ("only punctuation", "只有标点", "，。！？……——" * 100, "no-content"),
    ("white space of all kinds", "各种空白", "\u3000\u00a0\u2003\t\n\u2028\u1680" * 100, "no-text"),
    ("100,000 short lines", "十万短行", "好\nok\n" * 50_000, ""),
    ("control characters", "控制字符", "\x01\x02\x1b\x7f\x85\x9b" * 100, "no-content"),
    ("escapes of a terminal", "终端转义序列", "\x1b[31m\x1b]0;owned\x07" + ZH * 40, ""),
    ("a word of 100,000 letters", "十万字母的词", "a" * 100_000, ""),
    ("100,000 ideographs without a stop", "十万汉字无标点", "天气" * 50_000, ""),
)
"""English, Chinese, the text, and the rule that removes it; empty where it is kept, or only what is visible of it."""

SOURCE = '[[ingest.sources]]\nname = "a"\nuri = "raw/*"\n'
CONFIGS: tuple[tuple[str, str, bytes, str], ...] = (
    ("no TOML", "不是 TOML", b"a = = 1", "not readable as TOML: Invalid value (at line 1, column 5)"),
    ("GBK", "GBK 编码", 'workspace = "工作"'.encode("gbk"), "not readable as TOML: 'utf-8' codec can't decode"),
    ("nested 10,000 deep", "嵌套一万层", b"a = " + b"[" * 10_000, "not readable as TOML: "),
    ("a number of 10,000 digits", "一万位的数字", b"a = " + b"9" * 10_000, "not readable as TOML: Exceeds the limit"),
    ("more than a megabyte", "超过 1 MB", b"#" * 1_000_001, "not readable as TOML: more than 1000000 bytes"),
    ("a wrong type", "类型不对", b'[train]\ntokens = "many"', "train.tokens: input should be a valid integer"),
    ("an unknown key", "未知的键", b"[train]\ntokns = 5", "train.tokns: unknown setting, did you mean tokens"),
    ("an unknown section", "未知的节", b"[trian]\ntokens = 5", "trian: unknown setting, did you mean train"),
    ("a key that a terminal would obey", "键里有终端转义", rb'"\u001b[31m" = 5', r"\x1b[31m: unknown setting"),
    (
        "infinity",
        "无穷大",
        b"[ingest]\nmax_document_mb = inf",
        "ingest.max_document_mb: input should be a finite number",
    ),
    (
        "sizes that exclude one another",
        "互相矛盾的大小",
        b"[dedup]\nbands = 99",
        "dedup: bands * rows must be at most num_perm",
    ),
    (
        "tuning without pairs",
        "没有语对却要微调",
        b"[tune]\nnightly = true",
        "tune.nightly needs pairs.sources, and there are none",
    ),
    ("two sources of one name", "两个来源同名", (SOURCE * 2).encode(), "two sources are named a"),
    (
        "a name that leads elsewhere",
        "名字带路径",
        SOURCE.replace('"a"', '"../a"').encode(),
        "ingest.sources.0.name: string should match",
    ),
    (
        "a protocol that is not allowed",
        "不允许的协议",
        SOURCE.replace("raw", "http://h").encode(),
        "source a needs 'http'",
    ),
    ("a NUL in a folder", "文件夹含 NUL", rb'train.tensorboard = "a\u0000"', "train.tensorboard: string should match"),
    (
        "a NUL in a path",
        "路径含 NUL",
        SOURCE.replace("raw", r"\u0000").encode(),
        "ingest.sources.0.uri: string should match",
    ),
)
"""English, Chinese, the configuration, and what is said of it."""

SHAPES = "the weights do not fit the architecture"
KIND = "not a tokenizer.json of slimpajama's kind"
NO_CONFIG = "not the config.json of a"
EXPORTED: tuple[tuple[str, str, str, Callable[[bytes], bytes], str], ...] = (
    ("weights that are cut", "截断的权重", "model.safetensors", lambda data: data[:-100], SHAPES),
    ("a pickle in their place", "换成 pickle", "model.safetensors", lambda _: b"\x80\x04\x95\x05.", SHAPES),
    (
        "a header of 2^60 bytes",
        "2^60 字节的头",
        "model.safetensors",
        lambda data: b"\0" * 7 + b"\x10" + data[8:],
        SHAPES,
    ),
    (
        "a model a million wide",
        "宽一百万的模型",
        "config.json",
        lambda data: _changed(data, "model", {"preset": "tiny", "width": 1 << 20}),
        SHAPES,
    ),
    (
        "another architecture",
        "另一种架构",
        "config.json",
        lambda data: _changed(data, "model", {"preset": "gpt"}),
        SHAPES,
    ),
    (
        "a row of 10^12 tokens",
        "10^12 个词元的行",
        "config.json",
        lambda data: _changed(data, "model", {"preset": "tiny", "row_tokens": 10**12}),
        NO_CONFIG,
    ),
    (
        "a setting that is unknown",
        "未知的设置",
        "config.json",
        lambda data: _changed(data, "model", {"depth": 3}),
        NO_CONFIG,
    ),
    ("no model in it", "没有 model", "config.json", lambda data: _changed(data, "model", None), NO_CONFIG),
    ("a list in place of an object", "列表代替对象", "config.json", lambda _: b"[1]", NO_CONFIG),
    ("nested 100,000 deep", "嵌套十万层", "config.json", lambda _: b"[" * 100_000, NO_CONFIG),
    (
        "a tokenizer of another kind",
        "另一种分词器",
        "tokenizer.json",
        lambda _: b'{"model": {"type": "Unigram", "vocab": [["a", 0.5]], "merges": []}}',
        KIND,
    ),
    (
        "a tokenizer of 100,000 pieces",
        "十万词条的分词器",
        "tokenizer.json",
        lambda _: json.dumps({"model": {"vocab": {str(n): n for n in range(100_000)}, "merges": []}}).encode(),
        KIND,
    ),
    ("ids with holes", "编号不连续", "tokenizer.json", lambda data: data.replace(b'"a":', b'"a":9', 1), KIND),
    (
        "merges of pieces that are not there",
        "合并不存在的词条",
        "tokenizer.json",
        lambda data: data.replace(b'"merges":[', b'"merges":[["zzz","z"],'),
        KIND,
    ),
    ("a tokenizer.json nested 100,000 deep", "嵌套十万层的分词器", "tokenizer.json", lambda _: b"[" * 100_000, KIND),
)
"""English, Chinese, the file of an exported model, what becomes of it, and what is said."""


def _changed(data: bytes, key: str, value: Any) -> bytes:
    found = json.loads(data)
    return json.dumps({name: one for name, one in (found | {key: value}).items() if one is not None}).encode()


CHAMPION, TUNED, INDEX = "models/champion.json", "tuned/current.json", "nights/index.json"
POINTERS: tuple[tuple[str, str, str, bytes, str], ...] = (
    ("no JSON", "不是 JSON", CHAMPION, b"{", "not readable as JSON"),
    ("no UTF-8", "不是 UTF-8", CHAMPION, b'"\xff"', "not readable as JSON"),
    ("nested 100,000 deep", "嵌套十万层", CHAMPION, b"[" * 100_000, "not readable as JSON"),
    ("half a surrogate pair", "半个代理对", CHAMPION, b'{"history": [{"model": "\\ud83d"}]}', "not readable as JSON"),
    ("a list", "列表", CHAMPION, b"[]", "not a pointer that slimpajama wrote"),
    ("entries without a model", "条目缺模型", CHAMPION, b'{"history": [{}]}', "not a pointer that slimpajama wrote"),
    (
        "a model outside the workspace",
        "工作区外的模型",
        CHAMPION,
        b'{"history": [{"action": "promote", "model": "../../etc", "night": "n"}]}',
        "no such model",
    ),
    (
        "a NUL in a model's name",
        "模型名含 NUL",
        CHAMPION,
        b'{"history": [{"action": "promote", "model": "a\\u0000", "night": "n"}]}',
        "no such model",
    ),
    (
        "tuned models by number",
        "编号代替模型名",
        TUNED,
        b'{"tasks": {"translation": 5}, "history": []}',
        "not a pointer",
    ),
    ("a night outside the workspace", "工作区外的夜晚", INDEX, b'{"nights": ["../../etc"]}', "not a list of nights"),
)
"""English, Chinese, a pointer of the workspace, its content, and what is said."""

NAMES: dict[str | bytes, str] = {
    "new\nline.txt": "",
    "a..b.txt": "",
    'it\'s "quoted".txt': "",
    b"\xff\xfe.txt": "",
    "长" * 83 + "ab.txt": "",
    "-rf.txt": "",
    "[a]*?.txt": "",
    "😀.txt": "",
    "\x1b[31mred.txt": "",
    "a#b.txt": "",
    " .txt": "",
    "pipe.txt": "unreadable",
    "device.txt": "unreadable",
    "self.txt": "unreadable",
    "nowhere.txt": "unreadable",
    "folder.txt": "folder",
    "gone.txt": "unreadable",
    "\x1b[32m.exe": "unknown-format",
}
"""Names, and the rule under which such a file is on record; empty where it is read."""

WORDS = {
    "en": {
        "encodings": "Encodings",
        "archives": "Compressed files",
        "json": "JSON lines",
        "csv": "CSV",
        "tables": "Parquet, Arrow, web archives",
        "html": "Web pages",
        "texts": "Strange texts",
        "names": "Names and kinds of files",
        "configs": "Configurations",
        "exported": "Exported models",
        "pointers": "Pointers of the workspace",
        "cases": "| what | file | texts read | on record |",
        "text": "| what | outcome |",
        "name": "| name | outcome |",
        "config": "| what | said |",
        "model": "| what | file | said |",
        "read": "read",
        "kept": "kept, what is visible of it",
        "removed": "removed",
        "twice": "read, its links not followed round",
        "more": "{} in all",
    },
    "zh": {
        "encodings": "编码",
        "archives": "压缩文件",
        "json": "JSON lines",
        "csv": "CSV",
        "tables": "Parquet、Arrow、网页存档",
        "html": "网页",
        "texts": "奇怪的文本",
        "names": "文件名与文件种类",
        "configs": "配置",
        "exported": "导出的模型",
        "pointers": "工作区的指针",
        "cases": "| 是什么 | 文件 | 读出几篇 | 记录 |",
        "text": "| 是什么 | 结果 |",
        "name": "| 名字 | 结果 |",
        "config": "| 是什么 | 报什么错 |",
        "model": "| 是什么 | 文件 | 报什么错 |",
        "read": "读",
        "kept": "保留其中看得见的部分",
        "removed": "剔除",
        "twice": "读，不沿链接绕圈",
        "more": "共 {} 条",
    },
}
HEADS = {
    "en": """# Bad inputs

[中文](bad-inputs.zh-CN.md)

What becomes of input that is broken, hostile or of another kind. One bad record costs one record: it goes to the night's
`removed/*.parquet` with its file, place, rule, what was seen and what was expected, and reading goes on (`slimpajama explain
ID` shows it). What makes a run impossible ends it with one line on stderr: a wrong setting with exit code 2, anything else
with 1. None of these ends in a traceback, waits for ever, fills the memory, or is lost without a word.

Bounds: a record, `ingest.max_document_mb`; an archive or a row group of Parquet, 200 times its size once it exceeds 128 MB;
a web page, what is parsed in seconds; a configuration, 1 MB. A Parquet file that lies about its own sizes is bounded by what
its pages unpack to, so read files of unknown origin where memory is limited (a container or `ulimit -v`).

This page is made of the tables that the tests check (`tests/unit/bad_inputs.py`), there with a limit of 1 MB a record.
""",
    "zh": """# 坏输入

[English](bad-inputs.md)

输入损坏、带恶意或种类不对时会怎样。一条坏记录只损失它自己：它连同文件、位置、规则、看到的和期望的一起进入当夜的
`removed/*.parquet`，读取继续（`slimpajama explain ID` 可以查看）。让整次运行无法进行的，在 stderr 上用一行说清并结束：
设置有误，退出码是 2；其他是 1。表中各种输入都不会引起 traceback，不会无限等待，不会占满内存，也不会悄悄丢失内容。

上限：单条记录为 `ingest.max_document_mb`；压缩文件或 Parquet 的一个行组，超过 128 MB 之后最多为自身大小的 200 倍；网页须能在
几秒内解析；配置文件为 1 MB。谎报自身大小的 Parquet 文件只受其页面解压后大小的限制，所以来历不明的文件请在限制了内存的地方读取
（容器或 `ulimit -v`）。

本页由测试所检查的表（`tests/unit/bad_inputs.py`）生成，测试里单条记录的上限为 1 MB。
""",
}


def _cell(value: object) -> str:
    text = str(value).replace("|", "\\|").replace("\n", "\\n")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _table(title: str, head: str, lines: list[list[object]]) -> list[str]:
    rule = "|" + "---|" * (head.count("|") - 1)
    return ["", f"## {title}", "", head, rule, *("| " + " | ".join(map(_cell, line)) + " |" for line in lines)]


def _on_record(case: Case, more: str) -> str:
    shown = [
        f"`{rule}`" + (f", {place}" if place else "") + (f": {value}" if value else "")
        for place, rule, value in case.bad
    ]
    return "; ".join(shown[:3]) + (f"; {more.format(len(shown))}" if len(shown) > 3 else "")


def page(language: str) -> str:
    """Return docs/bad-inputs.md, or its twin in `zh`."""
    word, pick = WORDS[language], 0 if language == "en" else 1
    lines = [HEADS[language].rstrip()]
    for group in dict.fromkeys(case.group for case in CASES):
        cases = [case for case in CASES if case.group == group]
        lines += _table(
            word[group],
            word["cases"],
            [
                [(case.en, case.zh)[pick], f"`{case.name}`", len(case.texts), _on_record(case, word["more"])]
                for case in cases
            ],
        )
    lines += _table(
        word["texts"],
        word["text"],
        [[text[pick], f"{word['removed']}: `{text[3]}`" if text[3] else word["kept"]] for text in TEXTS],
    )
    outcome = {"": word["read"], "folder": word["twice"]}
    lines += _table(
        word["names"],
        word["name"],
        [
            [f"`{name if isinstance(name, str) else repr(name)[2:-1]}`", outcome.get(rule) or f"`{rule}`"]
            for name, rule in NAMES.items()
        ],
    )
    lines += _table(word["configs"], word["config"], [[case[pick], f"`{case[3]}`"] for case in CONFIGS])
    for group, table_ in (("exported", EXPORTED), ("pointers", POINTERS)):
        lines += _table(word[group], word["model"], [[case[pick], f"`{case[2]}`", f"`{case[4]}`"] for case in table_])
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    for language, name in (("en", "bad-inputs.md"), ("zh", "bad-inputs.zh-CN.md")):
        (Path(__file__).resolve().parents[2] / "docs" / name).write_text(page(language), encoding="utf-8")
