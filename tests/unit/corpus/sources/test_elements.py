"""JSON that is not one object a line: every element is a document, and a defect costs one element."""

import io
import json
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slimpajama.corpus.sources import files
from slimpajama.corpus.sources.elements import element_lines, has_lines, peeked
from slimpajama.corpus.sources.records import ReadOptions, RejectedRecord
from slimpajama.corpus.sources.streams import BrokenStreamError, TooLong

ROWS = [{"id": n, "text": f'第{n}篇 "quoted" [x] {{y}}, text \\ \n', "more": [{"id": 7}, [n]]} for n in range(7)]
TEXTS = [(n, row["text"]) for n, row in enumerate(ROWS, 1)]


def dumped(indent: int | None = None) -> str:
    return json.dumps(ROWS, ensure_ascii=False, indent=indent)


def read(name: str, data: str, limit: int = 10_000) -> tuple[list[tuple[int, str]], list[RejectedRecord]]:
    texts, bad = [], []
    for batch in files.read(lambda: io.BytesIO(data.encode()), name, ReadOptions(max_document_bytes=limit)):
        texts += list(zip(batch.table["number"].to_pylist(), batch.table["text"].to_pylist(), strict=True))
        bad += batch.rejected
    return texts, bad


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
@pytest.mark.parametrize(
    "data",
    [
        dumped(),
        dumped(2),
        dumped(0),
        "\ufeff" + dumped(1),
        "\n \n" + dumped(1).replace("\n", "\r\n"),
        "[\n" + ",\n".join(json.dumps(row) for row in ROWS) + "\n]\n",
        "".join(json.dumps(row, indent=2) + "\n" for row in ROWS),
        "".join(json.dumps(row) + "\n" for row in ROWS),
        # Side by side, as queues write them, and the lines of an array without its brackets.
        "".join(json.dumps(row, ensure_ascii=False) for row in ROWS),
        " ".join(json.dumps(row) for row in ROWS[:2]) + "\n" + "".join(json.dumps(row) + "\n" for row in ROWS[2:]),
        ",\n".join(json.dumps(row) for row in ROWS) + ",\n",
        json.dumps(ROWS[:3]) + "\n" + json.dumps(ROWS[3:]),
        json.dumps(ROWS[:3]) + "\n" + "\n".join(map(json.dumps, ROWS[3:])),
    ],
)
def test_elements_of_arrays_and_objects_over_several_lines_are_documents(name: str, data: str):
    assert read(name, data) == (TEXTS, [])


def test_a_file_that_is_one_object_over_several_lines_is_one_document():
    assert read("paper.json", json.dumps(ROWS[0], indent=4)) == (TEXTS[:1], [])


DEFECTS = [
    "5",
    '"x"',
    "null",
    "[1, 2]",
    "{}",
    '{"id": 9, "text": "5" tall"}',
    '{"id": 9, "text": "他说"好"了"}',
    '{"id": 9, "text": "no end}',
    '{"id": 9, "text": "x"',
    '{"id": 9, "text": "x"}}',
    '{"id": 9, "text": "x"]}',
    '{"id": 9, "more": [1, 2, "text": "x"}',
    '{"id": 9, "more": {"k": 1, "text": "x"}',
    "{id: 9, text: 'x'}",
    '{"id": 9, "text": "raw\nline"}',
    '{"id": 9, "text": "x",}',
    '{"id": 9 "text": "x"}',
    '{"id": 9, "text": "\\',
    "[" * 600,
    '{"id": 9, "text": "' + "长" * 9000 + '"}',
    '{"id": 9, "text": "' + "x" * 3_000_000 + '"}',
    '{"id": 9, "text": "' + "x" * 3_000_000,
]


@pytest.mark.parametrize("defect", DEFECTS)
@pytest.mark.parametrize("between", [", ", ",\n"])
def test_a_bad_element_costs_that_element(defect: str, between: str):
    elements = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    texts, bad = read("a.json", "[" + between.join([*elements[:3], defect, *elements[3:]]) + "]")
    assert texts == TEXTS[:3] + [(n + 1, text) for n, text in TEXTS[3:]]
    assert [item.place for item in bad] == ["element 4"]


@pytest.mark.parametrize("between", [" ", "\n", ",\n,"])
def test_a_comma_that_is_missing_or_too_many_costs_nothing(between: str):
    assert read("a.json", f"[{between.join(map(json.dumps, ROWS))}]") == (TEXTS, [])


@pytest.mark.parametrize("first", ["[2024-01-01] started", "[INFO]", "[1, 2]"])
def test_a_first_line_that_is_no_array_of_objects_costs_that_line(first: str):
    texts, bad = read("a.jsonl", "\n".join([first, *map(json.dumps, ROWS)]))
    assert texts == [(number + 1, text) for number, text in TEXTS]
    assert [(item.place, item.rule) for item in bad] == [("line 1", "not-json")]


@pytest.mark.parametrize("cut", [1, 2, 30, 200])
def test_an_array_that_ends_early_gives_its_elements_and_then_says_so(cut: int):
    texts, bad = read("a.json", dumped()[:-cut])
    assert texts == TEXTS[: len(texts)]
    assert len(texts) >= 4
    assert [(item.place, item.rule) for item in bad] == [("", "truncated")]


@pytest.mark.parametrize("data", ["", " \n", "[]", "[ ]\n"])
def test_an_array_without_elements_is_an_empty_file(data: str):
    assert [item.rule for item in read("a.json", data)[1]] == ["empty-file"]


PIECE = st.sampled_from([*map(json.dumps, ROWS[:2]), *DEFECTS[:18], ",", "]", "}", "\n", '"', "\\"])


@given(st.lists(PIECE, max_size=9), st.sampled_from([", ", ",\n", " "]), st.integers(1, 90), st.integers(1, 300))
@settings(max_examples=300)
def test_elements_do_not_depend_on_where_blocks_end(pieces: list[str], between: str, block: int, size: int):
    data = ("[" + between.join(pieces) + "]").encode()

    def found(step: int) -> list[Any]:
        head, stream = peeked(data[start : start + step] for start in range(0, len(data), step))
        out: list[Any] = []
        try:
            # Not all at once: what is peeked at would hide where blocks end.
            out += element_lines(head, (data[start : start + step] for start in range(0, len(data), step)), size, 100)
        except BrokenStreamError as error:
            out.append(error.rule)
        assert b"".join(stream) == data
        return out

    assert found(block) == found(len(data))


def test_an_array_of_gigabytes_is_read_in_bounded_memory():
    element = json.dumps({"id": 1, "text": "好" * 10_000, "more": "x" * 300_000}).encode() + b",\n"

    def stream() -> Iterator[bytes]:
        yield b"["
        for _ in range(500):
            yield element
        yield b'{"id": 2, "text": "'
        for _ in range(500):
            yield b"y" * 1_000_000
        yield b'"}]'

    head, whole = peeked(stream())
    tracemalloc.start()
    found = [
        (n, data if isinstance(data, TooLong) else data.count(b"\n"))
        for n, data in element_lines(head, whole, 1 << 20, 1 << 21)
    ]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found[-1] == (501, TooLong(500_000_021))
    assert sum(n for _, n in found[:-1]) == 500
    assert peak < 20e6


@pytest.mark.parametrize(
    "data",
    ["[" + '{"a":[' * 400 + '{"a":0},' * 100_000 + 'x"y', "[" + '"x" y,' * 100_000, "[{" + ",\n" * 300_000 + "{"],
)
def test_hostile_arrays_are_read_in_linear_time(data: str):
    texts, bad = read("a.json", data, 1 << 22)
    assert texts == []
    assert bad


def test_lines_are_told_from_elements_by_the_beginning():
    assert has_lines(b'{"text": 1}\n{')
    assert has_lines(b"")
    assert has_lines(b'{"text": "}{, ", "a": [{}, {}]}\n{')
    assert has_lines(b'{"text": "a string without its end }{ ')
    assert has_lines(b'{"text": 1}}\n{')
    assert not has_lines(b'{"text": "}"} {"text": 2}\n{')
    assert not has_lines(b'{"text": 1},\n{')
    assert has_lines(b"x\n[")
    assert not has_lines(b"\xef\xbb\xbf\n [1]")
    assert not has_lines(b'{ \r\n"a": 1}')
