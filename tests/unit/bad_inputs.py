"""A hundred and fifty bad inputs and what is to become of each, for the tests; docs/bad-inputs.md sums them up.

Files are made when a test wants them; none lies in the repository. `make pages` writes build/bad-inputs.md, which lists
them all.
"""

from __future__ import annotations

import bz2
import gzip
import io
import json
import lzma
import zipfile
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
    what: str
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


def zipped(members: dict[str, bytes]) -> bytes:
    """Return files as a zip archive."""
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sink.getvalue()


def pages(n: int) -> tuple[str, ...]:
    """Return texts that do not pack away to nothing."""
    return tuple(f"{ZH}{EN} {n * n} {n * n * 7919 % 99_991}" for n in range(n))


LINES = pages(400)
WHOLE = jsonl(*LINES)


def _case(group: str) -> Callable[..., Case]:
    def make(
        what: str, name: str, data: bytes | Callable[[], bytes], *bad: tuple[str, str, str], texts: tuple[str, ...] = ()
    ) -> Case:
        source = data if callable(data) else lambda: data
        return Case(group=group, what=what, name=name, make=source, texts=texts, bad=bad)

    return make


_e, _a, _j = _case("encodings"), _case("archives"), _case("json")
_c, _t, _h, _x = _case("csv"), _case("tables"), _case("html"), _case("text")
_utf8, _unknown = "invalid-utf8", "unknown-encoding"

CASES: tuple[Case, ...] = (
    _e("UTF-16 with a byte order mark", "utf16.txt", ZH.encode("utf-16"), texts=(ZH,)),
    _e("UTF-16 without one", "utf16le.txt", EN.encode("utf-16-le"), texts=(EN,)),
    _e("UTF-8 with a byte order mark", "bom.txt", b"\xef\xbb\xbf" + ZH.encode(), texts=(ZH,)),
    _e("GBK", "gbk.txt", ZH.encode("gbk"), texts=(ZH,)),
    _e("GB18030 with four bytes", "gb18030.txt", f"{ZH}㐂".encode("gb18030"), texts=(f"{ZH}㐂",)),
    _e("GB18030 of rare characters alone", "rare.txt", "㐂䶵".encode("gb18030"), ("", _unknown, "no encoding")),
    _e("Big5", "big5.txt", "今天天氣很好".encode("big5"), texts=("今天天氣很好",)),
    _e("Latin-1", "latin1.txt", "café".encode("latin-1"), ("", _unknown, "no encoding that is detected, like windows")),
    _e(
        "a broken byte in the middle of a long text",
        "broken.txt",
        WIDE.encode()[:7] + WIDE.encode()[8:],
        texts=(f"{WIDE[:2]}\ufffd{WIDE[3:]}",),
    ),
    _e(
        "a broken byte in the middle of a short text",
        "short.txt",
        ZH.encode()[:7] + ZH.encode()[8:],
        ("", _unknown, "no encoding"),
    ),
    _e("NUL bytes", "nul.txt", f"{ZH}\0{EN}".encode(), ("", "has-nul", "NUL at character 14")),
    _e(
        "overlong UTF-8",
        "overlong.jsonl",
        jsonl(b'{"text": "\xc0\xaf"}', ZH),
        ("line 1", _utf8, "bytes c0 af"),
        texts=(ZH,),
    ),
    _e(
        "surrogates as three bytes each (CESU-8)",
        "cesu.jsonl",
        jsonl(b'{"text": "\xed\xa0\xbd\xed\xb8\x80"}', EN),
        ("line 1", _utf8, "bytes ed a0"),
        texts=(EN,),
    ),
    # archives
    _a(
        "gzip cut in the middle",
        "cut.jsonl.gz",
        lambda: gzip.compress(WHOLE, 0)[:-200],
        ("", "truncated", "Compressed file ended"),
        texts=LINES[:397],
    ),
    _a(
        "zstd cut in the middle",
        "cut.jsonl.zst",
        lambda: zstandard.compress(WHOLE)[:-200],
        ("", "truncated", "the file ends inside a zstd frame"),
    ),
    _a(
        "bzip2 cut in the middle",
        "cut.jsonl.bz2",
        lambda: bz2.compress(WHOLE)[:-200],
        ("", "truncated", "the file ends inside a compressed stream"),
    ),
    _a(
        "xz cut in the middle",
        "cut.jsonl.xz",
        lambda: lzma.compress(WHOLE)[:-200],
        ("", "truncated", "the file ends inside a compressed stream"),
        texts=LINES[:374],
    ),
    _a("a zip archive that is none", "none.zip", b"x", ("", "damaged", "no zip archive")),
    _a(
        "a zip archive of a text, a picture and nothing",
        "some.zip",
        lambda: zipped({"一.txt": ZH.encode(), "b.jpg": b"x", "c.txt": b""}),
        ("b.jpg, number 1000000000", "unknown-format", "b.jpg"),
        ("c.txt, number 2000000000", "empty-file", "no record"),
        texts=(ZH,),
    ),
    _a(
        "a bomb in a zip archive",
        "bomb.zip",
        lambda: zipped({"a.txt": bytes(20_000_000), "b.jsonl": jsonl(ZH)}),
        ("a.txt, number 0", "too-large", "unpacks to more than 200 times"),
        ("b.jsonl, number 1000000000", "too-large", "unpacks to more than 200 times"),
    ),
    _a(
        "a bomb of one long line",
        "bomb.jsonl.zst",
        lambda: zstandard.compress(b'{"text": "' + bytes(20_000_000)),
        ("", "too-large", "unpacks to more than 200 times"),
    ),
    _a(
        "a bomb of many short lines",
        "lines.jsonl.zst",
        lambda: zstandard.compress(b"\n" * 20_000_000),
        ("", "too-large", "unpacks to more than 200 times"),
    ),
    _a(
        "packed twice",
        "twice.txt.gz",
        lambda: gzip.compress(gzip.compress(ZH.encode(), mtime=0), mtime=0),
        ("", _unknown, "no encoding"),
    ),
    _a(
        "garbage after a gzip",
        "tail.jsonl.gz",
        lambda: gzip.compress(jsonl(ZH)) + b"garbage",
        ("", "damaged", "Not a gzipped file"),
        texts=(ZH,),
    ),
    _a(
        "garbage after a bzip2",
        "tail.jsonl.bz2",
        lambda: bz2.compress(jsonl(ZH)) + b"garbage",
        ("", "damaged", "Invalid data stream"),
        texts=(ZH,),
    ),
    _a(
        "garbage after a zstd",
        "tail.jsonl.zst",
        lambda: zstandard.compress(jsonl(ZH)) + b"garbage",
        ("", "damaged", "zstd decompress"),
        texts=(ZH,),
    ),
    _a(
        "a second part that is damaged",
        "second.jsonl.bz2",
        lambda: bz2.compress(jsonl(ZH)) + b"BZh9" + bz2.compress(jsonl(EN))[5:],
        ("", "damaged", "Invalid data stream"),
        texts=(ZH,),
    ),
    _a(
        "a name that promises another packing",
        "wrong.txt.gz",
        lambda: zstandard.compress(ZH.encode()),
        ("", "damaged", "Not a gzipped file"),
    ),
    _a(
        "a packed file under a plain name",
        "plain.txt",
        lambda: gzip.compress(ZH.encode(), mtime=0),
        ("", _unknown, "no encoding"),
    ),
    _a("an empty archive", "empty.txt.gz", lambda: gzip.compress(b""), ("", "empty-file", "no record")),
    _a("an archive without a byte", "zero.jsonl.bz2", b"", ("", "empty-file", "no record")),
    _a("a kind that is not known", "archive.tar", b"x", ("", "unknown-format", "archive.tar")),
    # JSON lines
    _j(
        "nested 10,000 deep",
        "deep.jsonl",
        jsonl(EN, b"[" * 10_000 + b"]" * 10_000, ZH),
        ("line 2", "not-json", "nested too deeply"),
        texts=(EN, ZH),
    ),
    _j(
        "numbers of 100,000 digits",
        "numbers.jsonl",
        jsonl(b'{"text": "x", "n": ' + b"9" * 100_000 + b"}"),
        texts=("x",),
    ),
    _j("a key twice", "twice.jsonl", jsonl(b'{"text": "one", "text": "two"}'), texts=("two",)),
    _j(
        "NaN and Infinity",
        "nan.jsonl",
        jsonl(b'{"text": NaN}', b'{"text": "x", "n": -Infinity}'),
        ("line 1", "no-text", "a float"),
        texts=("x",),
    ),
    _j(
        "half a surrogate pair as an escape",
        "half.jsonl",
        jsonl(b'{"text": "\\ud83d"}', ZH),
        ("line 1", "lone-surrogate", "U+D83D at character 1"),
        texts=(ZH,),
    ),
    _j(
        "NUL as an escape",
        "nul.jsonl",
        jsonl(b'{"text": "a\\u0000"}', ZH),
        ("line 1", "has-nul", "NUL at character 2"),
        texts=(ZH,),
    ),
    _j(
        "text under another name: its keys are named, that of the longest text first",
        "keys.jsonl",
        jsonl(json.dumps({"id": "7", "内容": ZH, "none": None}).encode(), b'{"n": 1, "body": "words"}', b"{}", ZH),
        ("line 1", "no-text", "no such field; its keys: 内容, id"),
        ("line 2", "no-text", "no such field; its keys: body, n"),
        ("line 3", "no-text", "no such field; its keys: none"),
        texts=(ZH,),
    ),
    _j(
        "text under another name, beside a line that only the slower parser reads",
        "slow.jsonl",
        jsonl(json.dumps({"id": "7", "内容": ZH}).encode(), b"broken", b'{"body\\u001b": "words"}'),
        ("line 1", "no-text", "no such field; its keys: 内容, id"),
        ("line 2", "not-json", "Expecting value"),
        ("line 3", "no-text", "no such field; its keys: body\\x1b"),
    ),
    _j(
        "text missing, null, a number, a list, empty",
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
        "values.jsonl",
        jsonl(b'"x"', b"[1]", b"5", ZH),
        ("line 1", "not-json", "a str"),
        ("line 2", "not-json", "a list"),
        ("line 3", "not-json", "a int"),
        texts=(ZH,),
    ),
    _j("a last line without an end", "end.jsonl", jsonl(ZH)[:-1], texts=(ZH,)),
    _j(
        "a last line that is cut",
        "cut.jsonl",
        jsonl(ZH, EN)[:-5],
        ("line 2", "not-json", "Unterminated string"),
        texts=(ZH,),
    ),
    _j(
        "a line of 64 MB",
        "long.jsonl",
        lambda: jsonl(b'{"text": "' + b"x" * 64_000_000 + b'"}', ZH),
        ("line 1", "too-large", "64000012 bytes"),
        texts=(ZH,),
    ),
    _j("a byte order mark inside", "bom.jsonl", jsonl(ZH, b"\xef\xbb\xbf" + jsonl(EN)[:-1]), texts=(ZH, EN)),
    _j("ends of lines as of Windows", "crlf.jsonl", jsonl(ZH, EN).replace(b"\n", b"\r\n"), texts=(ZH, EN)),
    _j(
        "a comma at the end of a line further down",
        "comma.jsonl",
        jsonl(EN, jsonl(ZH)[:-1] + b",", EN),
        ("line 2", "not-json", "Extra data"),
        texts=(EN, EN),
    ),
    _j(
        "two objects in a line further down",
        "two.jsonl",
        jsonl(EN, jsonl(ZH)[:-1] * 2, EN),
        ("line 2", "not-json", "Extra data"),
        texts=(EN, EN),
    ),
    _j(
        "an array with an element that is none",
        "array.json",
        f'[{{"text": "{ZH}"}}, 5, {{"text": "5" x"}}, {{"text": "{EN}"}}]'.encode(),
        ("element 2", "not-json", "a int"),
        ("element 3", "not-json", "Expecting"),
        texts=(ZH, EN),
    ),
    _j(
        "an array that is never closed",
        "open.json",
        f'[{{"text": "{ZH}"}}, {{"text": "{EN}"'.encode(),
        ("", "truncated", "the file ends inside an array"),
        texts=(ZH,),
    ),
    # CSV
    _c(
        "a quote that is never closed",
        "quote.csv",
        f'text\n{ZH}\n"{EN}\n'.encode(),
        ("row 2", "not-csv", "unexpected end"),
        texts=(ZH,),
    ),
    _c(
        "a quote in the middle",
        "middle.csv",
        f'text\n"a"b\n{ZH}\n'.encode(),
        ("row 1", "not-csv", "',' expected"),
        texts=(ZH,),
    ),
    _c(
        "rows of other lengths",
        "ragged.csv",
        f"id,text\n1\n2,{ZH},3,4\n3,{EN}\n".encode(),
        ("row 1", "no-text", "no such field"),
        texts=(ZH, EN),
    ),
    _c("a NUL", "nul.csv", f"text\na\0b\n{ZH}\n".encode(), ("row 1", "has-nul", "NUL at character 2"), texts=(ZH,)),
    _c(
        "a field of 2 MB",
        "field.csv",
        f"text\n{'x' * 2_000_000}\n{ZH}\n".encode(),
        ("line 2", "too-large", "2000000 bytes"),
        texts=(ZH,),
    ),
    _c(
        "a field of 2 MB in many lines",
        "lines.csv",
        f'text\n"{(EN + chr(10)) * 39_000}"\n{ZH}\n'.encode(),
        ("row 1", "not-csv", "field larger than field limit"),
        ("row 1964", "not-csv", "unexpected end"),
        texts=(EN,) * 1962,
    ),
    _c("no column of that name", "column.csv", b"a,b\n1,2\n", ("", "no-text", "columns a, b")),
    _c("only a header", "header.csv", b"text\n", ("", "empty-file", "no record")),
    # Parquet, Arrow, WARC
    _t("Parquet that is cut", "cut.parquet", lambda: parquet(table(*LINES))[:-100], ("", "unreadable", "no Parquet")),
    _t("no Parquet", "no.parquet", ZH.encode(), ("", "unreadable", "no Parquet")),
    _t(
        "Parquet without rows",
        "rows.parquet",
        lambda: parquet(table(kind=pa.string())),
        ("", "empty-file", "no record"),
    ),
    _t(
        "a footer longer than the file",
        "footer.parquet",
        b"PAR1" + b"\xff\xff\xff\x7f" + b"PAR1",
        ("", "unreadable", "no Parquet"),
    ),
    _t(
        "a schema nested 100,000 deep",
        "nested.parquet",
        lambda: nested_footer(100_000),
        ("", "unreadable", "no Parquet"),
    ),
    _t(
        "statistics that contradict the schema",
        "statistics.parquet",
        contradiction,
        ("row 1", "unreadable", "Definition level"),
    ),
    _t(
        "10,000 rows that share a text of 2 MB",
        "dictionary.parquet",
        long_dictionary,
        *((f"row {row}", "too-large", "2000000 bytes") for row in range(1, 9)),
        ("row 9", "too-large", "a row group of too many bytes"),
    ),
    _t(
        "a million rows in a kilobyte",
        "many.parquet",
        many_rows,
        ("row 1", "too-large", "a row group of too many bytes"),
    ),
    _t(
        "a column of numbers",
        "numbers.parquet",
        lambda: parquet(table(1, 2)),
        ("row 1", "no-text", "a int"),
        ("row 2", "no-text", "a int"),
    ),
    _t("a column of lists", "lists.parquet", lambda: parquet(table(["x"])), ("row 1", "no-text", "a list")),
    _t("a column of structs", "structs.parquet", lambda: parquet(table({"a": "x"})), ("row 1", "no-text", "a dict")),
    _t(
        "dictionaries and large texts",
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
        "bytes.parquet",
        lambda: parquet(pa.table({"text": pa.array([b"\xff", ZH.encode()]).view(pa.string())})),
        ("row 1", _utf8, "bytes ff"),
        texts=(ZH,),
    ),
    _t(
        "an Arrow file that is cut",
        "cut.arrow",
        lambda: arrow(table(*LINES))[:-3000],
        ("row 1", "unreadable", "Expected to be able"),
    ),
    _t("no Arrow", "no.arrow", ZH.encode(), ("row 1", "unreadable", "")),
    _t(
        "a web archive that is cut",
        "cut.warc",
        lambda: warc(b"<p>" + ZH.encode(), b"<p>" + EN.encode() * 9)[:-100],
        ("record 2", "truncated", "96 bytes fewer"),
        texts=(ZH,),
    ),
    _t(
        "a web archive of wrong lengths",
        "length.warc",
        lambda: warc(b"<p>" + ZH.encode(), b"<p>x", extra=9999),
        ("record 1", "truncated", "9765 bytes fewer"),
    ),
    # HTML
    _h("100,000 open tags", "deep.html", b"<div>" * 100_000, ("", "too-deep", "100000 tags")),
    _h("a text that no style shows", "seen.html", f"<p>{ZH}<p style='display:none'>{EN}".encode(), texts=(ZH,)),
    _h(
        "60,000 styles",
        "style.html",
        b"<style>" + b".a{display:none}" * 60_000 + b"</style>" + b"<p>x" * 2_000,
        ("", "too-deep", "2002 tags, 1 deep, 60000 selectors"),
    ),
    _h("a page under the name of a PDF", "page.pdf", f"<p>{ZH}".encode(), ("", "damaged", "no PDF")),
    _h(
        "a Word document with a password",
        "locked.docx",
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512),
        ("", "encrypted", "a file with a password"),
    ),
    _h("a book that is cut", "cut.epub", b"PK\x03\x04" + bytes(200), ("", "damaged", "no zip file")),
    _h("only a script", "script.html", b"<script>let x = 1</script>", ("", "no-text", "an empty text")),
    _h("200,000 entities", "entities.html", b"<p>" + b"&lt;" * 200_000, texts=("<" * 200_000,)),
    _h("no end tags", "open.html", f"<p>{ZH}<p>{EN}".encode(), texts=(f"{ZH}\n{EN}",)),
    _h("says GBK and is UTF-8", "lies.html", f"<meta charset=gbk><p>{WIDE}".encode(), texts=(WIDE,)),
    _h("says UTF-8 and is GBK", "gbk.html", f"<meta charset=utf-8><p>{ZH}".encode("gbk"), texts=(ZH,)),
    _h("says UTF-16 and is UTF-8", "utf16.html", f"<meta charset=utf-16><p>{ZH}".encode(), texts=(ZH,)),
    _h("UTF-16 with a byte order mark", "bom.html", f"<p>{ZH}".encode("utf-16"), texts=(ZH,)),
    _h(
        "an encoding of Python's alone",
        "idna.html",
        b"<meta charset=idna><p>xn--" + b"a-" * 100_000,
        texts=("xn--" + "a-" * 100_000,),
    ),
    _h("a comment that is never closed", "comment.html", f"<p>{ZH}<!-- {EN}".encode(), texts=(ZH,)),
    _h(
        "a tag of 50,000 attributes",
        "attributes.html",
        lambda: b"<p " + b"".join(b"a%d=1 " % n for n in range(50_000)) + b">x",
        ("", "too-deep", "a tag of 50001 attributes"),
    ),
    _h(
        "a list of 20,000 options",
        "options.html",
        b"<select>" + b"<option>x</option>" * 20_000 + b"</select>",
        texts=("\n".join("x" * 20_000),),
    ),
    _h(
        "fonts that every paragraph opens again",
        "fonts.html",
        lambda: "".join(("<p>", *(f"<font size={n}>" for n in range(1000)), "x<p>" * 5000)).encode(),
        ("", "too-deep", "6001 tags, 3000 to be open"),
    ),
)

TEXTS: tuple[tuple[str, str, str], ...] = (
    ("only combining marks", "\u0301\u0308\u0327" * 200, "language"),
    ("bidirectional controls", "\u202e\u2066" * 200, "no-content"),
    ("zero-width characters", "\u200b\u2060\ufeff" * 200, "no-content"),
    ("private use", "\ue000\uf8ff" * 200, "no-content"),
    ("unassigned code points", "\u0378\u0379" * 200, "no-content"),
    ("noncharacters", "\ufdd0\ufffe\uffff" * 200, "no-content"),
    ("10,000 times one character", "好" * 10_000, ""),
    ("only punctuation", "，。！？……——" * 100, "no-content"),
    ("white space of all kinds", "\u3000\u00a0\u2003\t\n\u2028\u1680" * 100, "no-text"),
    ("100,000 short lines", "好\nok\n" * 50_000, ""),
    ("control characters", "\x01\x02\x1b\x7f\x85\x9b" * 100, "no-content"),
    ("escapes of a terminal", "\x1b[31m\x1b]0;owned\x07" + ZH * 40, ""),
    ("a word of 100,000 letters", "a" * 100_000, ""),
    ("100,000 ideographs without a stop", "天气" * 50_000, ""),
)
"""What it is, the text, and the rule that removes it; empty where it is kept, or only what is visible of it."""

SOURCE = '[[ingest.sources]]\nname = "a"\nuri = "raw/*"\n'
CONFIGS: tuple[tuple[str, bytes, str], ...] = (
    ("no TOML", b"a = = 1", "not readable as TOML: Invalid value (at line 1, column 5)"),
    ("GBK", 'workspace = "工作"'.encode("gbk"), "not readable as TOML: 'utf-8' codec can't decode"),
    ("nested 10,000 deep", b"a = " + b"[" * 10_000, "not readable as TOML: "),
    ("a number of 10,000 digits", b"a = " + b"9" * 10_000, "not readable as TOML: Exceeds the limit"),
    ("more than a megabyte", b"#" * 1_000_001, "not readable as TOML: more than 1000000 bytes"),
    ("a wrong type", b'[train]\ntokens = "many"', "train.tokens: input should be a valid integer"),
    ("an unknown key", b"[train]\ntokns = 5", "train.tokns: unknown setting, did you mean tokens"),
    ("an unknown section", b"[trian]\ntokens = 5", "trian: unknown setting, did you mean train"),
    ("a key that a terminal would obey", rb'"\u001b[31m" = 5', r"\x1b[31m: unknown setting"),
    ("infinity", b"[ingest]\nmax_document_mb = inf", "ingest.max_document_mb: input should be a finite number"),
    ("sizes that exclude one another", b"[dedup]\nbands = 99", "dedup: bands * rows must be at most num_perm"),
    ("tuning without pairs", b"[tune]\nnightly = true", "tune.nightly needs pairs.sources, and there are none"),
    ("two sources of one name", (SOURCE * 2).encode(), "two sources are named a"),
    (
        "a name that leads elsewhere",
        SOURCE.replace('"a"', '"../a"').encode(),
        "ingest.sources.0.name: string should match",
    ),
    ("a protocol that is not allowed", SOURCE.replace("raw", "http://h").encode(), "source a needs 'http'"),
    ("a NUL in a folder", rb'train.tensorboard = "a\u0000"', "train.tensorboard: string should match"),
    ("a NUL in a path", SOURCE.replace("raw", r"\u0000").encode(), "ingest.sources.0.uri: string should match"),
)
"""What it is, the configuration, and what is said of it."""

SHAPES = "the weights do not fit the architecture"
KIND = "not a tokenizer.json of slimpajama's kind"
NO_CONFIG = "not the config.json of a"
EXPORTED: tuple[tuple[str, str, Callable[[bytes], bytes], str], ...] = (
    ("weights that are cut", "model.safetensors", lambda data: data[:-100], SHAPES),
    ("a pickle in their place", "model.safetensors", lambda _: b"\x80\x04\x95\x05.", SHAPES),
    ("a header of 2^60 bytes", "model.safetensors", lambda data: b"\0" * 7 + b"\x10" + data[8:], SHAPES),
    (
        "a model of 65,536 channels",
        "config.json",
        lambda data: _changed(data, "model", {"preset": "tiny", "width": 1 << 16}),
        SHAPES,
    ),
    ("another architecture", "config.json", lambda data: _changed(data, "model", {"preset": "gpt"}), SHAPES),
    (
        "a row of 10^12 tokens",
        "config.json",
        lambda data: _changed(data, "model", {"preset": "tiny", "row_tokens": 10**12}),
        NO_CONFIG,
    ),
    ("a setting that is unknown", "config.json", lambda data: _changed(data, "model", {"depth": 3}), NO_CONFIG),
    ("no model in it", "config.json", lambda data: _changed(data, "model", None), NO_CONFIG),
    ("a list in place of an object", "config.json", lambda _: b"[1]", NO_CONFIG),
    ("nested 100,000 deep", "config.json", lambda _: b"[" * 100_000, NO_CONFIG),
    (
        "a tokenizer of another kind",
        "tokenizer.json",
        lambda _: b'{"model": {"type": "Unigram", "vocab": [["a", 0.5]], "merges": []}}',
        KIND,
    ),
    (
        "a tokenizer of 100,000 pieces",
        "tokenizer.json",
        lambda _: json.dumps({"model": {"vocab": {str(n): n for n in range(100_000)}, "merges": []}}).encode(),
        KIND,
    ),
    ("ids with holes", "tokenizer.json", lambda data: data.replace(b'"a":', b'"a":9', 1), KIND),
    (
        "merges of pieces that are not there",
        "tokenizer.json",
        lambda data: data.replace(b'"merges":[', b'"merges":[["zzz","z"],'),
        KIND,
    ),
    ("a tokenizer.json nested 100,000 deep", "tokenizer.json", lambda _: b"[" * 100_000, KIND),
)
"""What it is, the file of an exported model, what becomes of it, and what is said."""


def _changed(data: bytes, key: str, value: Any) -> bytes:
    found = json.loads(data)
    return json.dumps({name: one for name, one in (found | {key: value}).items() if one is not None}).encode()


CHAMPION, TUNED, INDEX = "models/champion.json", "tuned/current.json", "nights/index.json"
POINTERS: tuple[tuple[str, str, bytes, str], ...] = (
    ("no JSON", CHAMPION, b"{", "not readable as JSON"),
    ("no UTF-8", CHAMPION, b'"\xff"', "not readable as JSON"),
    ("nested 100,000 deep", CHAMPION, b"[" * 100_000, "not readable as JSON"),
    ("half a surrogate pair", CHAMPION, b'{"history": [{"model": "\\ud83d"}]}', "not readable as JSON"),
    ("a list", CHAMPION, b"[]", "not a pointer that slimpajama wrote"),
    ("entries without a model", CHAMPION, b'{"history": [{}]}', "not a pointer that slimpajama wrote"),
    (
        "a model outside the workspace",
        CHAMPION,
        b'{"history": [{"action": "promote", "model": "../../etc", "night": "n"}]}',
        "no such model",
    ),
    (
        "a NUL in a model's name",
        CHAMPION,
        b'{"history": [{"action": "promote", "model": "a\\u0000", "night": "n"}]}',
        "no such model",
    ),
    ("tuned models by number", TUNED, b'{"tasks": {"translation": 5}, "history": []}', "not a pointer"),
    ("a night outside the workspace", INDEX, b'{"nights": ["../../etc"]}', "not a list of nights"),
)
"""What it is, a pointer of the workspace, its content, and what is said."""

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

GROUPS = {
    "encodings": "Encodings",
    "archives": "Compressed files",
    "json": "JSON lines",
    "csv": "CSV",
    "tables": "Parquet, Arrow, web archives",
    "html": "Web pages",
}
HEAD = """# Bad inputs, tried

docs/bad-inputs.md says it in general. The tests check these tables (`tests/unit/bad_inputs.py`), with a limit of 1 MB
a record.
"""


def _cell(value: object) -> str:
    text = str(value).replace("|", "\\|").replace("\n", "\\n")
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in text)


def _table(title: str, head: str, lines: list[list[object]]) -> list[str]:
    rule = "|" + "---|" * (head.count("|") - 1)
    return ["", f"## {title}", "", head, rule, *("| " + " | ".join(map(_cell, line)) + " |" for line in lines)]


def _on_record(case: Case) -> str:
    shown = [
        f"`{rule}`" + (f", {place}" if place else "") + (f": {value}" if value else "")
        for place, rule, value in case.bad
    ]
    return "; ".join(shown[:3]) + (f"; {len(shown)} in all" if len(shown) > 3 else "")


def page() -> str:
    """Return all tables as Markdown."""
    lines = [HEAD.rstrip()]
    for group, title in GROUPS.items():
        rows: list[list[object]] = [
            [case.what, f"`{case.name}`", len(case.texts), _on_record(case)] for case in CASES if case.group == group
        ]
        lines += _table(title, "| what | file | texts read | on record |", rows)
    texts: list[list[object]] = [
        [what, f"removed: `{rule}`" if rule else "kept, what is visible of it"] for what, _, rule in TEXTS
    ]
    lines += _table("Strange texts", "| what | outcome |", texts)
    outcome = {"": "read", "folder": "read, its links not followed round"}
    names: list[list[object]] = [
        [f"`{name if isinstance(name, str) else repr(name)[2:-1]}`", outcome.get(rule) or f"`{rule}`"]
        for name, rule in NAMES.items()
    ]
    lines += _table("Names and kinds of files", "| name | outcome |", names)
    lines += _table("Configurations", "| what | said |", [[what, f"`{said}`"] for what, _, said in CONFIGS])
    for title, table_ in (("Exported models", EXPORTED), ("Pointers of the workspace", POINTERS)):
        files: list[list[object]] = [[what, f"`{name}`", f"`{said}`"] for what, name, _, said in table_]
        lines += _table(title, "| what | file | said |", files)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    out = Path(__file__).resolve().parents[2] / "build" / "bad-inputs.md"
    out.parent.mkdir(exist_ok=True)
    out.write_text(page(), encoding="utf-8")
