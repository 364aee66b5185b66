"""Whatever a file holds: one clear record for what is broken, the records before it kept, and bounded memory."""

import bz2
import gzip
import io
import json
import lzma
import math
import tracemalloc
import zlib
from collections.abc import Callable
from typing import Any, get_args, get_type_hints

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from slimpajama.core.config import SourceConfig
from slimpajama.core.errors import InputError
from slimpajama.corpus.sources import files, pages
from slimpajama.corpus.sources.formats import ANY_FILE, BEFORE, BY_FORMAT, READERS, format_of
from slimpajama.corpus.sources.records import RULES, Batch, Note, ReadOptions, RejectedRecord

WANT = ReadOptions(max_document_bytes=100_000)
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".zst": zstandard.compress,
    ".xz": lzma.compress,
}
TEXTS = [f"第{n}篇 document {zlib.crc32(str(n).encode())} " + "好" * 9 for n in range(3000)]


def read(name: str, data: bytes, options: ReadOptions = WANT) -> list[Batch]:
    return list(files.read(lambda: io.BytesIO(data), name, options))


def texts(batches: list[Batch]) -> list[str]:
    return [text for batch in batches for text in batch.table["text"].to_pylist()]


def bad(batches: list[Batch]) -> list[RejectedRecord]:
    return [item for batch in batches for item in batch.rejected]


def page(body: bytes, kind: str = "text/html", status: str = "200 OK") -> tuple[bytes, str, str]:
    return body, kind, status


def warc_file(*pages: tuple[bytes, str, str]) -> bytes:
    sink = io.BytesIO()
    writer = WARCWriter(sink, gzip=False)
    writer.write_record(writer.create_warcinfo_record("a.warc", {"software": "test"}))
    for number, (body, kind, status) in enumerate(pages):
        headers = StatusAndHeaders(status, [("Content-Type", kind)], protocol="HTTP/1.1")
        uri, date = f"https://example.org/{number}", {"WARC-Date": "2024-01-01T00:00:00Z"}
        writer.write_record(
            writer.create_warc_record(
                uri, "response", payload=io.BytesIO(body), http_headers=headers, warc_headers_dict=date
            )
        )
    return sink.getvalue()


def arrow(**columns: Any) -> bytes:
    sink, table = io.BytesIO(), pa.table(columns)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=100)
    return sink.getvalue()


def parquet(row_group_size: int = 500, **columns: Any) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table(columns), sink, row_group_size=row_group_size, compression="none")
    return sink.getvalue()


WHOLE = {
    "a.jsonl": "".join(json.dumps({"text": text}) + "\n" for text in TEXTS).encode(),
    "a.csv": ("text\n" + "".join(f'"{text}"\n' for text in TEXTS)).encode(),
    "a.arrow": arrow(text=TEXTS),
    "a.parquet": parquet(text=TEXTS),
    "a.warc": warc_file(*(page(f"<p>{text}".encode()) for text in TEXTS[:300])),
    "a.txt": "\n".join(TEXTS[:300]).encode(),
    "a.html": ("<p>" + "<p>".join(TEXTS[:300])).encode(),
}

DEEP = RejectedRecord("line 2", "not-json", "nested too deeply", "one JSON object")
CONTROL = "Invalid control character at: line 1 column 12 (char 11)"
JSON_LINES = [
    (b'{"text": "a\\u0000b"}', RejectedRecord("line 2", "has-nul", "NUL at character 2", "no NUL")),
    (b'{"text": "a\0b"}', RejectedRecord("line 2", "not-json", CONTROL, "one JSON object")),
    (b"\0" * 50, RejectedRecord("line 2", "not-json", "Expecting value: line 1 column 1 (char 0)", "one JSON object")),
    (
        '{"text": "好\\ud83d"}'.encode(),
        RejectedRecord("line 2", "lone-surrogate", "U+D83D at character 2", "valid Unicode"),
    ),
    (b'{"text": "x", "y": "\\udc00"}', "x"),  # nobody reads it
    (
        b'{"text": "\xed\xa0\xbd"}',
        RejectedRecord("line 2", "invalid-utf8", "bytes ed a0 bd 22 at byte 11", "valid UTF-8"),
    ),
    (b'{"text": "x", "deep": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", DEEP),
    (b'{"text": "x", "deep": ' + b'{"a":' * 10_000 + b"1" + b"}" * 10_001, DEEP),
    (b"[" * 10_000, DEEP),
    # Brackets in a text are no depth.
    (b'{"text": "' + b"[{" * 10_000 + b'"}', "[{" * 10_000),
    (b'{"text": "x", "n": 1e999}', "x"),
    (b'{"text": "x", "n": ' + b"9" * 10_000 + b"}", "x"),
    (b'{"text": ' + b"9" * 10_000 + b"}", RejectedRecord("line 2", "no-text", "a float", "a text")),
    (b'{"text": "x", "n": NaN}', "x"),
    (b'{"text": NaN}', RejectedRecord("line 2", "no-text", "a float", "a text")),
    (b'{"text": "first", "text": "last"}', "last"),
    (b'{"text": "x", "k": 1, "k": 2}', "x"),
    # An id that an earlier record has.
    (b'{"text": "a", "id": "one"}', "a"),
    (
        b'{"text": "' + b"x" * 200_000 + b'"}',
        RejectedRecord("line 2", "too-large", "200012 bytes", "at most 100000 bytes"),
    ),
]


@pytest.mark.parametrize(("line", "expected"), JSON_LINES)
def test_a_bad_json_line_is_one_record_between_its_neighbours(line: bytes, expected: RejectedRecord | str):
    options = ReadOptions(max_document_bytes=100_000, id_field="id")
    found = read("a.jsonl", b'{"text": "before", "id": "one"}\n' + line + b'\n{"text": "after"}\n', options)
    assert texts(found) == ["before", *([expected] if isinstance(expected, str) else []), "after"]
    assert bad(found) == ([expected] if isinstance(expected, RejectedRecord) else [])


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"body": ["x"]}, RejectedRecord("", "no-text", "columns body", "a column text")),
        ({"text": [1.5]}, RejectedRecord("row 1", "no-text", "a float", "a text")),
        (
            {"text": [["x"]]},
            RejectedRecord("row 1", "no-text", "a list", "a text; [] behind the name takes those of a list"),
        ),
        ({"text": [{"a": "x"}]}, RejectedRecord("row 1", "no-text", "a dict", "a text")),
        ({"text": pa.nulls(1)}, RejectedRecord("row 1", "no-text", "no such field", "a text")),
        ({"text": pa.array([], pa.string())}, RejectedRecord("", "empty-file", "no record", "at least one record")),
    ],
)
@pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
def test_a_table_of_a_wrong_schema_says_so(name: str, columns: dict[str, Any], expected: RejectedRecord):
    assert bad(read(name, (parquet if name == "a.parquet" else arrow)(**columns))) == [expected]


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("name", WHOLE)
def test_every_format_is_read_however_it_is_packed(name: str, packing: str):
    found = read(name + packing, PACK[packing](WHOLE[name]))
    assert bad(found) == []
    assert texts(found) == texts(read(name, WHOLE[name]))
    assert TEXTS[299] in "\n".join(texts(found))


RECORDS = ["a.jsonl", "a.csv", "a.arrow", "a.warc"]


@pytest.mark.parametrize("packing", PACK)
@pytest.mark.parametrize("name", RECORDS)
def test_a_cut_file_gives_its_whole_records_and_then_says_so(name: str, packing: str):
    packed = PACK[packing](WHOLE[name])
    found = read(name + packing, packed[: len(packed) * 9 // 10], ReadOptions(max_document_bytes=10_000_000))
    kept = texts(found)
    # Of what ends without a mark, the last may be a part.
    assert kept[:-1] == TEXTS[: max(0, len(kept) - 1)]
    # A block of the others is larger.
    if packing in ("", ".gz"):
        assert len(kept) > 100
    if packing:
        assert [item.rule for item in bad(found)] == ["truncated"]
        assert kept == TEXTS[: len(kept)]


@pytest.mark.parametrize("cut", [4, 9, 2000])
def test_a_cut_parquet_tail_is_one_record_of_the_file(cut: int):
    (item,) = bad(read("a.parquet", WHOLE["a.parquet"][:-cut]))
    assert (item.place, item.rule) == ("", "unreadable")


def test_a_damaged_row_group_costs_that_group_only():
    data = bytearray(parquet(text=pa.array(TEXTS).dictionary_encode()))
    group = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(2).column(0)
    start = group.dictionary_page_offset
    data[start : start + 20] = b"\xff" * 20
    found = read("a.parquet", bytes(data))
    assert texts(found) == TEXTS[:1000] + TEXTS[1500:]
    assert [(item.place, item.rule) for item in bad(found)] == [("row 1001", "unreadable")]


@pytest.mark.parametrize("packing", [*PACK][1:])
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.txt", "a.html"])
def test_a_bomb_is_one_record_and_never_in_memory(name: str, packing: str):
    start = b"text\n" if name == "a.csv" else b'{"text": "'
    packed = PACK[packing](start + b"x" * 300_000_000)
    assert len(packed) < 400_000
    tracemalloc.start()
    found = read(name + packing, packed)
    assert tracemalloc.get_traced_memory()[1] < 40e6
    tracemalloc.stop()
    assert texts(found) == []
    assert len(bad(found)) == 1
    assert bad(found)[0].rule in ("too-large", "damaged")


def test_a_flood_of_bad_records_comes_in_bounded_batches():
    found = read("a.jsonl", b"x\n" * 50_000)
    assert max(len(batch.rejected) for batch in found) < 6000
    assert len(bad(found)) == 50_000


def test_pages_of_a_web_archive_are_documents_and_the_rest_is_counted():
    archive = warc_file(
        page("<title>题</title><p>正文".encode()),
        page(b"\x89PNG", "image/png"),
        page(b"gone", status="404 Not Found"),
        page(b"plain text", "text/plain; charset=utf-8"),
        page(b"\xff\xfd"),
        page(b"y" * 200_000),
    )
    found = read("a.warc.gz", gzip.compress(archive))
    assert texts(found) == ["正文", "plain text"]
    pages, passed_over = found
    assert pages.table["id"].to_pylist() == ["https://example.org/0", "https://example.org/3"]
    counted = Note("passed-over", "2 of 6 records: 1 image/png, 1 status 404", "pages and plain text")
    assert passed_over.notes == ((0, counted),)
    assert bad(found) == [
        RejectedRecord(
            "record 5",
            "unknown-encoding",
            "no encoding that is detected, like CP1254",
            "UTF-8, GB18030, Big5, UTF-16 or English in windows-1252; for another one set `encoding`",
        ),
        RejectedRecord("record 6", "too-large", "more than 100000 bytes", "at most 100000 bytes"),
    ]


def test_a_web_archive_without_ends_of_lines_is_given_up():
    archive = warc_file(page(b"<p>first")) + b"x" * 40_000_000
    found = read("a.warc.gz", gzip.compress(archive, 1))
    assert texts(found) == ["first"]
    assert [item.rule for item in bad(found)] == ["too-large"]


def test_a_page_whose_compression_breaks_off_is_no_short_document():
    lines = "".join(f"第 {n} 行 line {zlib.crc32(bytes([n]))}\n" for n in range(200)).encode()
    whole = gzip.compress(lines, mtime=0)
    archive = warc_file(*(page(body, "text/plain\r\nContent-Encoding: gzip") for body in (whole, whole[:-9])))
    found = read("a.warc", archive)
    assert texts(found) == [lines.decode()]
    assert [(item.place, item.rule) for item in bad(found)] == [("record 2", "truncated")]


def test_nothing_of_a_web_archive_is_logged_which_a_terminal_would_obey(caplog: pytest.LogCaptureFixture):
    address = b"https://example.org/0"
    archive = warc_file(page("正文".encode(), "text/plain")).replace(address, b"https://a/ \x1b[31m b/cc")
    assert texts(read("a.warc", archive)) == ["正文"]
    assert caplog.messages == []


def test_without_warcio_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(pages, "import_module", missing)
    with pytest.raises(InputError, match=r"a\.warc: .*extra `warc`.*slimpajama\[warc\]"):
        read("a.warc", b"WARC/1.0")


def test_every_reader_is_a_format_of_a_source_and_says_by_which_known_rules_it_refuses():
    assert {"auto", *BY_FORMAT} == set(get_args(get_type_hints(SourceConfig)["format"]))
    assert {rule for reader in READERS for rule in (*BEFORE, *ANY_FILE, *reader.refuses)} == set(RULES)


NAMES = st.tuples(st.sampled_from([*WHOLE]), st.sampled_from([*PACK]))


def check(name: str, data: bytes) -> list[Batch]:
    """Read hostile bytes: no exception, a record at least, and everything in it printable and valid."""
    options = ReadOptions(max_document_bytes=5000, id_field="id", batch_bytes=2000)
    found = read(name, data, options)
    assert texts(found) or bad(found)
    assert {item.rule for item in bad(found)} <= {*ANY_FILE, *BY_FORMAT[format_of(name)].refuses}
    for batch in found:
        batch.table.validate(full=True)
        assert all(0 < len(text.encode()) <= 5000 for text in batch.table["text"].to_pylist())
        assert all(item.rule and item.value.isprintable() for item in batch.rejected)
    return found


@given(NAMES, st.binary(max_size=300), st.booleans())
@settings(max_examples=300)
def test_no_bytes_break_a_reader(name: tuple[str, str], data: bytes, packed: bool):
    check("".join(name), PACK[name[1]](data) if packed else data)


SMALL = {
    "a.jsonl": "".join(json.dumps({"text": text, "id": 3}) + "\n" for text in TEXTS[:40]).encode(),
    "a.csv": ("id,text\n" + "".join(f'1,"{text}"\n' for text in TEXTS[:40])).encode(),
    "a.arrow": arrow(id=range(40), text=TEXTS[:40]),
    "a.parquet": parquet(10, id=range(40), text=TEXTS[:40]),
    "a.warc": warc_file(*(page(f"<p>{text}".encode()) for text in TEXTS[:20])),
}


@given(
    st.sampled_from([*SMALL]),
    st.sampled_from([*PACK]),
    st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=6)), min_size=1, max_size=4),
    st.booleans(),
)
@settings(max_examples=600)
def test_no_damage_breaks_a_reader(name: str, packing: str, damages: list[tuple[float, bytes]], inside: bool):
    """Bytes overwritten anywhere, in the file or in its archive."""
    data = bytearray(SMALL[name] if inside else PACK[packing](SMALL[name]))
    for share, noise in damages:
        start = math.floor(share * len(data))
        data[start : start + len(noise)] = noise
    check(name + packing, PACK[packing](bytes(data)) if inside else bytes(data))
