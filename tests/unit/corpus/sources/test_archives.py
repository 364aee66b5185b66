"""Each file in a zip archive is read by its own name, and none can make us hold or unpack too much."""

import gzip
import io
import json
import struct
import zipfile
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.corpus.sources import archives, files
from slimpajama.corpus.sources.records import ReadOptions


def packed(members: dict[str, bytes], how: int = zipfile.ZIP_DEFLATED) -> bytes:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w", how) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return sink.getvalue()


def read(data: bytes, name: str = "a.zip", **options: Any) -> tuple[list[tuple[int, str, str]], list[tuple[str, str]]]:
    """Return number, name and text of the records, and place and rule of what is refused."""
    texts, bad = [], []
    wanted = ReadOptions(**{"max_document_bytes": 100_000} | options)
    for batch in files.read(lambda: io.BytesIO(data), name, wanted):
        batch.table.validate(full=True)
        texts += [tuple(row.values()) for row in batch.table.to_pylist()]
        bad += [(item.place, item.rule) for item in batch.rejected]
    return texts, bad


def parquet(*texts: str) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.table({"text": texts}), sink)
    return sink.getvalue()


LINES = b'{"text": "one", "id": "k"}\nbad\n{"text": "\xe4\xba\x8c"}\n'
MEMBERS = {
    "books/": b"",
    "books/中文.txt": "好".encode(),
    "lines.jsonl": LINES,
    "lines.json.gz": gzip.compress(b'[{"text": "packed"}]'),
    "table.parquet": parquet("甲", "乙"),
    "__MACOSX/books/._x.txt": b"x",
    ".hidden.txt": b"x",
    "picture.jpg": b"x",
    "empty.txt": b"",
    "inner.zip": b"x",
}


@pytest.mark.parametrize("how", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_files_of_an_archive_are_read_by_their_names(how: int):
    texts, bad = read(packed(MEMBERS, how), id_field="id")
    base = 1_000_000_000
    assert texts == [
        (base + 1, "books/中文.txt#1", "好"),
        (2 * base + 1, "lines.jsonl#k", "one"),
        (2 * base + 3, "lines.jsonl#3", "二"),
        (3 * base + 1, "lines.json.gz#1", "packed"),
        (4 * base + 1, "table.parquet#1", "甲"),
        (4 * base + 2, "table.parquet#2", "乙"),
    ]
    assert bad == [
        ("lines.jsonl, line 2, number 2000000002", "not-json"),
        ("picture.jpg, number 7000000000", "unknown-format"),
        ("empty.txt, number 8000000000", "empty-file"),
        ("inner.zip, number 9000000000", "unknown-format"),
    ]


def test_a_format_that_is_given_is_that_of_the_files_inside():
    data = packed({"a.txt": LINES, "b": b'{"text": "b"}'})
    assert [text for _, _, text in read(data, format="jsonl")[0]] == ["one", "二", "b"]


def test_names_in_the_encoding_of_a_chinese_windows_are_told():
    data = packed({"xx.txt": b"x"}).replace(b"xx.txt", "书.txt".encode("gbk"))
    assert read(data)[0] == [(1, "书.txt#1", "x")]


def test_what_cannot_be_unpacked_costs_its_file():
    data = packed({"a.txt": b"first", "b.txt": "第二".encode() * 99, "c.txt": b"third"})
    place = data.index(b"b.txt") + 5
    broken = data[: place + 4] + b"\xff" * 4 + data[place + 8 :]
    texts, bad = read(broken)
    assert [text for _, _, text in texts] == ["first", "third"]
    assert bad == [("b.txt, number 1000000000", "damaged")]
    with io.BytesIO() as sink:
        with zipfile.ZipFile(sink, "w", zipfile.ZIP_BZIP2) as archive:
            archive.writestr("a.txt", b"x")
        assert read(sink.getvalue()) == ([], [("a.txt, number 0", "unreadable")])
    encrypted = bytearray(packed({"a.txt": b"x"}, zipfile.ZIP_STORED))
    for mark, shift in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        encrypted[encrypted.index(mark) + shift] |= 1
    assert read(bytes(encrypted)) == ([], [("a.txt, number 0", "unreadable")])


def test_bombs_are_not_unpacked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(archives, "BOMB_BYTES", 1_000_000)
    one = packed({"a.jsonl": b"\n" * 2_000_000, "b.txt": b"fine"})
    assert read(one)[1] == [("a.jsonl, number 0", "too-large"), ("b.txt, number 1000000000", "too-large")]
    # Each by itself is within the bound.
    many = packed({f"{n}.txt": b"x" * 400_000 for n in range(6)})
    assert [rule for _, rule in read(many)[1]] == ["too-large"] * 6
    assert [place[:5] for place, _ in read(many, max_document_bytes=500_000)[1]] == ["2.txt", "3.txt", "4.txt", "5.txt"]


@pytest.mark.parametrize(
    ("data", "rule"),
    [
        (b"", "damaged"),
        (b"no archive", "damaged"),
        (packed(MEMBERS)[:-30], "damaged"),
        (packed({}), "empty-file"),
        (packed({".hidden": b"x"}), "empty-file"),
    ],
)
def test_what_is_no_archive_or_holds_nothing_is_one_record(data: bytes, rule: str):
    assert read(data) == ([], [("", rule)])


def test_a_list_of_files_that_would_fill_the_memory_is_not_read(monkeypatch: pytest.MonkeyPatch):
    data = packed({f"{n}.txt": b"x" for n in range(100)})
    monkeypatch.setattr(archives, "_LONGEST_LIST", 1000)
    assert read(data) == ([], [("", "too-large")])
    end = data.index(b"PK\5\6")
    wide = data[:end] + struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 100, 100, 5000, 0)
    wide += struct.pack("<4sIQI", b"PK\6\7", 0, end, 1) + data[end:]
    assert read(wide) == ([], [("", "too-large")])


LONG = b"".join(json.dumps({"text": f"t{n}"}).encode() + b"\n" for n in range(9))
SMALL = packed({"a.txt": "好".encode(), "b.jsonl": LONG})


@given(st.lists(st.tuples(st.integers(0, len(SMALL) - 1), st.integers(0, 255)), max_size=5), st.integers(0, len(SMALL)))
@settings(max_examples=200)
def test_no_damage_breaks_the_reading_of_an_archive(damages: list[tuple[int, int]], cut: int):
    data = bytearray(SMALL)
    for place, byte in damages:
        data[place] = byte
    texts, bad = read(bytes(data) if cut % 2 else bytes(data[:cut]))
    assert texts or bad
    numbers = [number for number, _, _ in texts]
    assert numbers == sorted(set(numbers))
