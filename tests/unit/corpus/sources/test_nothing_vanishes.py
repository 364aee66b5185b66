"""Over all readers: whatever stands in a file is a document or a refusal on record, each once."""

import csv
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from office import docx, epub
from reportlab.pdfgen.canvas import Canvas

from slimpajama.corpus.sources import files
from slimpajama.corpus.sources.records import ReadOptions

LIMIT = 400
# What a record may be, by the name under which `lines_of` and the like know how to write it.
GOOD = st.sampled_from(["今天天气很好。", "A plain sentence.", "它说：“好”，\t\"ok\", 'x'", "😀 𠀀 é", "1,2;3"])
BAD = st.sampled_from(["", "   ", "长" * LIMIT, "nul\0", None])
RECORDS = st.lists(GOOD | BAD, min_size=1, max_size=12)
JUNK = st.sampled_from([b"not json", b"7", b"null", b'{"other": 1}', b'{"text": 3}', b'{"text": "\xff"}', b'"x"'])


def as_json(record: str | None) -> bytes:
    return json.dumps({"text": record}, ensure_ascii=False).encode()


def as_csv(records: Sequence[str | None]) -> bytes:
    sink = io.StringIO()
    writer = csv.writer(sink)
    writer.writerows([["id", "text"], *([str(n), record or ""] for n, record in enumerate(records))])
    return sink.getvalue().encode()


def as_parquet(records: Sequence[str | None]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": pa.array(records, pa.string())}), sink, row_group_size=5)
    return sink.getvalue()


def as_arrow(records: Sequence[str | None]) -> bytes:
    sink = io.BytesIO()
    table = pa.table({"text": pa.array(records, pa.string())})
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=5)
    return sink.getvalue()


def as_wiki(records: Sequence[str | None]) -> bytes:
    return "".join(f'<doc id="{n}" title="t">\n{record or ""}\n</doc>\n' for n, record in enumerate(records)).encode()


WHOLE: dict[str, Callable[[Sequence[str | None]], bytes]] = {
    "csv": as_csv,
    "parquet": as_parquet,
    "arrow": as_arrow,
    "wiki": as_wiki,
}


def count(name: str, data: bytes, **options: object) -> int:
    """Return how many documents and refusals a file gives."""
    read = files.read(lambda: io.BytesIO(data), name, ReadOptions(max_document_bytes=LIMIT, **options))
    return sum(batch.table.num_rows + len(batch.rejected) for batch in read)


@pytest.mark.parametrize("form", WHOLE)
@given(records=RECORDS)
@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_every_record_of_a_file_of_one_piece_is_in_or_refused(form: str, records: list[str | None]):
    assert count(f"a.{form}", WHOLE[form](records), format=form) == len(records)


@given(
    lines=st.lists(RECORDS.map(lambda found: as_json(found[0])) | JUNK, min_size=1, max_size=12), packed=st.booleans()
)
@settings(max_examples=100, deadline=None)
def test_every_json_line_whole_or_broken_is_in_or_refused(lines: list[bytes], packed: bool):
    data = b"\n".join(lines) + b"\n"
    name, data = ("a.jsonl.gz", gzip.compress(data)) if packed else ("a.jsonl", data)
    assert count(name, data) == len(lines)


@given(records=RECORDS, junk=st.lists(st.sampled_from([b"7", b"null", b'{"other": 1}', b'"x"']), max_size=3))
@settings(max_examples=60, deadline=None)
def test_every_element_of_an_array_is_in_or_refused(records: list[str | None], junk: list[bytes]):
    elements = [*map(as_json, records), *junk]
    assert count("a.json", b"[" + b",\n ".join(elements) + b"]") == len(elements)


@given(records=st.lists(GOOD, min_size=1, max_size=12), long=st.booleans())
@settings(max_examples=60, deadline=None)
def test_every_line_and_block_of_a_text_is_in_or_refused(records: list[str], long: bool):
    texts = [*records, "长" * LIMIT] if long else records
    assert count("a.txt", "\n".join(texts).encode(), split="line") == len(texts)
    assert count("a.txt", "\n\n\n".join(texts).encode(), split="blank") == len(texts)


@given(
    answers=st.lists(
        st.tuples(
            st.sampled_from(["200 OK", "301 Moved", "404 Not Found"]),
            st.sampled_from(["text/html", "text/plain; charset=gbk", "image/png", "application/pdf", ""]),
            st.sampled_from(["<p>今天天气很好。", "<p>A plain sentence.", "", "长" * LIMIT]),
        ),
        min_size=1,
        max_size=12,
    )
)
@settings(max_examples=100, deadline=None)
def test_every_record_of_a_web_archive_is_in_refused_or_counted(answers: list[tuple[str, str, str]]):
    data = b""
    for status, media_type, body in answers:
        block = f"HTTP/1.1 {status}\r\nContent-Type: {media_type}\r\n\r\n".encode() + body.encode()
        data += b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: https://example.org/\r\n"
        data += b"WARC-Date: 2024-01-01T00:00:00Z\r\nContent-Type: application/http; msgtype=response\r\n"
        data += b"Content-Length: %d\r\n\r\n" % len(block) + block + b"\r\n\r\n"
    batches = list(files.read(lambda: io.BytesIO(data), "a.warc", ReadOptions(max_document_bytes=LIMIT)))
    found = [bad for batch in batches for bad in batch.rejected if bad.rule != "empty-file"]
    passed = [note.value for batch in batches for _, note in batch.notes if note.rule == "passed-over"]
    counted = int(passed[0].split(" of ")[0]) if passed else 0
    assert sum(batch.table.num_rows for batch in batches) + len(found) + counted == len(answers)


@given(files_of_lines=st.lists(st.lists(GOOD | BAD, min_size=1, max_size=4), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_every_line_of_every_file_of_an_archive_is_in_or_refused(files_of_lines: list[list[str | None]]):
    members = [b"\n".join(map(as_json, records)) + b"\n" for records in files_of_lines]
    lines = sum(map(len, files_of_lines))
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, data in enumerate(members):
            archive.writestr(f"{number}.jsonl", data)
    assert count("a.zip", sink.getvalue()) == lines
    assert count("a.jsonl.xz", lzma.compress(b"".join(members))) == lines


@given(name=st.sampled_from(["a.txt", "a.md", "a.html", "a.srt"]), data=GOOD.map(str.encode) | st.binary(max_size=200))
@settings(max_examples=100, deadline=None)
def test_a_file_that_is_one_document_is_in_or_refused(name: str, data: bytes):
    assert count(name, data) == 1


def as_pdf(texts: Sequence[str]) -> bytes:
    sink = io.BytesIO()
    canvas = Canvas(sink)
    for text in texts:
        canvas.drawString(72, 700, text)
        canvas.showPage()
    canvas.save()
    return sink.getvalue()


def as_docx(texts: Sequence[str]) -> bytes:
    return docx("".join(f"<w:p><w:r><w:t>{escape(text)}</w:t></w:r></w:p>" for text in texts))


def as_epub(texts: Sequence[str]) -> bytes:
    return epub(*(f"<html><body><p>{escape(text)}</p></body></html>" for text in reversed(texts)))


BOOKS: dict[str, Callable[[Sequence[str]], bytes]] = {"pdf": as_pdf, "docx": as_docx, "epub": as_epub}
# A PDF starts a process.
EXAMPLES = {"pdf": 8, "docx": 60, "epub": 60}
# Bytes that are cut off the end of a file, and one that is changed.
DAMAGE = st.tuples(st.integers(0, 400), st.integers(0, 2000), st.integers(0, 255))


def damaged(whole: bytes, damage: tuple[int, int, int]) -> bytes:
    cut, place, value = damage
    whole = whole[: max(1, len(whole) - cut)]
    place %= len(whole)
    return whole[:place] + bytes([value]) + whole[place + 1 :]


@pytest.mark.parametrize("form", BOOKS)
def test_a_printed_document_is_in_or_refused_whole_damaged_and_in_an_archive(form: str):
    @given(texts=st.lists(GOOD, max_size=6), long=st.booleans(), damage=DAMAGE)
    @settings(max_examples=EXAMPLES[form], deadline=None, derandomize=True)
    def check(texts: list[str], long: bool, damage: tuple[int, int, int]):
        whole = BOOKS[form]([*texts, "长 x " * LIMIT] if long else texts)
        bad = damaged(whole, damage)
        assert count(f"a.{form}", whole) == 1
        assert count(f"a.{form}", bad) == 1
        sink = io.BytesIO()
        with zipfile.ZipFile(sink, "w") as archive:
            archive.writestr(f"甲.{form}", whole)
            archive.writestr(f"b.{form}", bad)
        assert count("a.zip", sink.getvalue()) == 2

    check()


@pytest.mark.parametrize("form", ["docx", "epub"])
@given(texts=st.lists(GOOD, min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_every_paragraph_of_a_printed_document_is_in_its_text(form: str, texts: list[str]):
    data = BOOKS[form](texts)
    (batch,) = files.read(lambda: io.BytesIO(data), f"a.{form}", ReadOptions(max_document_bytes=10_000))
    (found,) = batch.table["text"].to_pylist()
    assert [line.split() for line in found.split("\n")] == [text.split() for text in texts]


def test_a_planted_loss_is_seen(monkeypatch: pytest.MonkeyPatch):
    """Or the counts above could not fail."""
    whole = files.read

    def lossy(*args):
        for batch in whole(*args):
            yield batch._replace(rejected=batch.rejected[1:]) if batch.rejected else batch

    monkeypatch.setattr(files, "read", lossy)
    assert count("a.jsonl", b'{"text": "a"}\nnot json\n{"text": "b"}\n') == 2
