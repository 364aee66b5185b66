"""Web archives as crawlers write them: responses, files that were fetched otherwise, and text made of pages (WET)."""

import gzip
import io
import zlib

import pytest
import zstandard

from slimpajama.corpus.sources import files
from slimpajama.corpus.sources.records import MARK, Batch, ReadOptions

ZH = "秋收以后，摄影师在海边的灯塔旁修好了一台旧收音机，从此再也没有提起过。清晨，邮递员在铁路桥下种下了三棵银杏树。"
HANT = "秋收以後，攝影師在海邊的燈塔旁修好了一台舊收音機，從此再也沒有提起過。清晨，郵差在鐵路橋下種下了三棵銀杏樹。"
EN = "An honest baker counted the apples of this harvest, but the bill was never paid. " * 3


def record(kind: str, body: bytes, uri: str, content_type: str, **headers: str) -> bytes:
    named = {"WARC-Type": kind, "WARC-Target-URI": uri, "WARC-Date": "2024-01-01T00:00:00Z"} | headers
    lines = [*named.items(), ("Content-Type", content_type), ("Content-Length", str(len(body)))]
    head = "WARC/1.0\r\n" + "".join(f"{name}: {value}\r\n" for name, value in lines)
    return f"{head}\r\n".encode() + body + b"\r\n\r\n"


def response(
    body: bytes,
    content_type: str = "text/html",
    uri: str = "http://a.example/",
    status: str = "200 OK",
    # Common Crawl unpacks bodies and renames the headers that said how they were packed.
    packed: str = "X-Crawl-Content-Encoding: gzip",
) -> bytes:
    head = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n{packed}\r\n\r\n"
    return record("response", head.encode() + body, uri, "application/http; msgtype=response")


def read(name: str, data: bytes) -> list[Batch]:
    return list(files.read(lambda: io.BytesIO(data), name, ReadOptions(max_document_bytes=10**6)))


def texts(batches: list[Batch]) -> list[str]:
    return [text for batch in batches for text in batch.table["text"].to_pylist()]


def notes(batches: list[Batch]) -> list[tuple[int, str, str]]:
    return [(number, note.rule, note.value) for batch in batches for number, note in batch.notes]


def test_a_server_s_header_says_the_encoding_before_the_page_does():
    gbk, big5 = f"<p>{ZH}".encode("gbk"), f"<p>{HANT}".encode("cp950")
    found = read(
        "a.warc",
        b"".join(
            [
                response(gbk, "text/html; charset=gbk"),
                response(b"<meta charset=utf-8>" + gbk, 'text/html; Charset="GB2312"'),
                response(ZH.encode("gb18030"), "text/plain;charset=gb18030"),
                response(big5, "text/html; charset=big5"),
                response(b"<meta charset=gbk>" + gbk),
                response(b'<?xml version="1.0" encoding="big5"?>' + big5, "application/xhtml+xml"),
                response(gbk),
                response(f"<p>{EN} ".encode() + b"caf\xe9", "text/html; charset=utf-8"),
            ]
        ),
    )
    assert texts(found) == [ZH, ZH, ZH, HANT, ZH, HANT, ZH, f"{EN}caf{MARK}"]
    assert [(number, rule) for number, rule, _ in notes(found)] == [(7, "detected-encoding"), (8, "replaced-bytes")]
    assert [bad for batch in found for bad in batch.rejected] == []


def test_bodies_are_unpacked_and_one_that_is_packed_otherwise_costs_itself():
    page, packed = f"<p>{ZH}".encode("gbk"), gzip.compress(f"<p>{EN}".encode())
    chunks = b"%x\r\n" % len(packed) + packed + b"\r\n0\r\n\r\n"
    found = read(
        "a.warc",
        b"".join(
            [
                response(packed, packed="Content-Encoding: GZip"),
                response(packed, packed="Content-Encoding: x-gzip"),
                response(zlib.compress(page), packed="content-encoding: deflate"),
                response(chunks, packed="Content-Encoding: gzip\r\nTransfer-Encoding: Chunked"),
                response(b"\x8b\x03\x80\xff\x00\x11" * 40, packed="Content-Encoding: br"),
                response(page, packed="Content-Encoding: br"),
                response(zstandard.compress(page), packed="Content-Encoding: zstd"),
                response(page, packed="Content-Encoding: gzip"),
                response(page),
            ]
        ),
    )
    assert texts(found) == [text.strip() for text in (EN, EN, ZH, EN, ZH, ZH, ZH)]
    assert [(bad.place, bad.rule, bad.value) for batch in found for bad in batch.rejected] == [
        ("record 5", "unreadable", "packed by br"),
        ("record 7", "unreadable", "packed by zstd"),
    ]


def test_a_page_without_a_type_has_the_one_that_the_crawler_found():
    body = b"HTTP/1.1 200 OK\r\n\r\n" + f"<p>{ZH}".encode()
    told = {"WARC-Identified-Payload-Type": "text/html"}
    archive = [record("response", body, "http://a.example/", "application/http", **headers) for headers in (told, {})]
    found = read("a.warc", b"".join(archive))
    assert texts(found) == [ZH]
    assert [value for _, _, value in notes(found)] == ["1 of 2 records: 1 without a type"]


ARCHIVE = [
    record("warcinfo", b"Software-Info: x\r\n", "", "application/warc-fields"),
    record("request", b"GET / HTTP/1.1\r\n\r\n", "http://a.example/", "application/http; msgtype=request"),
    response(f"<p>{ZH}".encode("gbk"), "text/html; charset=gbk"),
    response(b"moved", status="301 Moved Permanently"),
    record("metadata", b"fetchTimeMs: 1\r\n", "http://a.example/", "application/warc-fields"),
    record("resource", f"<p>{HANT}".encode(), "file:///srv/b.html", "text/html; charset=utf-8"),
    record("resource", b"notes of the crawler", "metadata://gnu.org/software/wget/warc/wget.log", "text/plain"),
    record("resource", b"\x89PNG", "http://a.example/b.png", "image/png"),
    record("conversion", ZH.encode(), "http://b.example/", "text/plain", **{"WARC-Identified-Content-Language": "zho"}),
    record("revisit", b"", "http://a.example/", "application/http; msgtype=response"),
    record("conversion", EN.encode(), "http://c.example/", "text/plain"),
]


def dictionary_archive() -> bytes:
    """Return the archive as zstd frames that need the dictionary in front of them."""
    held = zstandard.train_dictionary(2000, [record[start:] for record in ARCHIVE for start in range(60)])
    pack = zstandard.ZstdCompressor(dict_data=held).compress
    frame = zstandard.compress(held.as_bytes())
    return b"\x5d\x2a\x4d\x18" + len(frame).to_bytes(4, "little") + frame + b"".join(map(pack, ARCHIVE))


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("CC-MAIN-20240101000000-00000.warc", b"".join(ARCHIVE)),
        ("CC-MAIN-20240101000000-00000.warc.gz", b"".join(map(gzip.compress, ARCHIVE))),
        ("CC-MAIN-20240101000000-00000.warc.wet.gz", b"".join(map(gzip.compress, ARCHIVE))),
        ("crawl.wet", b"".join(ARCHIVE)),
        ("crawl.warc.zst", dictionary_archive()),
    ],
)
def test_responses_resources_and_conversions_are_documents(name: str, data: bytes):
    found = read(name, data)
    assert texts(found) == [ZH, HANT, ZH, EN]
    own = [own_id for batch in found for own_id in batch.table["id"].to_pylist()]
    assert own == ["http://a.example/", "file:///srv/b.html", "http://b.example/", "http://c.example/"]
    assert [bad for batch in found for bad in batch.rejected] == []
