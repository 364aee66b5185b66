"""Quotes: where a target stands, what may be quoted, and which of many likely spans is taken."""

from types import SimpleNamespace

import numpy as np
import pytest

from slimpajama.apps.tune.spans import (
    answer_spans,
    best_quote,
    quote_of,
    sentence_ends,
    sentence_runs,
    sentence_spans,
    sentences,
)
from slimpajama.text.tokenizer import Tokenizer


class Bytes:
    """A tokenizer whose tokens are bytes."""

    pieces = tuple(bytes([n]) for n in range(256))
    token_bytes = np.ones(256, np.int64)
    begins_character = Tokenizer.begins_character.func(SimpleNamespace(pieces=pieces))

    def decode_bytes(self, ids):
        return bytes(ids.tolist())


def ids(text):
    return np.frombuffer(text.encode(), np.uint8).astype(np.uint16)


def text_of(source, span):
    return bytes(source[span[0] : span[1] + 1].tolist()).decode()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("今天很好。我们学习！“真的？”他问。", ["今天很好。", "我们学习！", "“真的？”", "他问。"]),
        ("It rains. Version 3.2 is out! Is it?", ["It rains. ", "Version 3.2 is out!", " Is it?"]),
        ("no end", ["no end"]),
        ("", []),
    ],
)
def test_sentences_join_back_to_their_line(line, expected):
    found = sentences(line)
    assert "".join(found) == line
    assert [one.strip() for one in found] == [one.strip() for one in expected]


@pytest.mark.parametrize(("answer", "source"), [("北京", "他住在北京。"), ("in 1968", "It began in 1968, in May.")])
def test_an_answer_is_found_where_it_stands(answer, source):
    span = quote_of(ids(source), ids(answer), ids("?"), Bytes())
    assert text_of(ids(source), span) == answer


@pytest.mark.parametrize(
    ("answer", "question", "source", "before"),
    [
        (
            "1968",
            "When was the bridge built?",
            f"In 1968 it rained{'. ' * 30}The bridge was built in 1968.",
            "built in ",
        ),
        ("北京", "总部在哪里？", f"北京下雨了{'。' * 30}公司的总部在北京。", "总部在"),
    ],
)
def test_of_several_places_the_one_near_the_questions_words(answer, question, source, before):
    first, last = quote_of(ids(source), ids(answer), ids(question), Bytes())
    assert text_of(ids(source), (first - len(before.encode()), last)) == before + answer


@pytest.mark.parametrize(
    ("target", "source", "best"),
    [
        ("编译器很快。", "标题\n\n这是别的。编译器非常快。结束。", "编译器非常快。"),
        ("the compiler is quick", "Other words here. The compiler is very quick. Bye.", "The compiler is very quick. "),
    ],
)
def test_else_the_sentences_that_come_nearest(target, source, best):
    for question in ("", "?"):
        span = quote_of(ids(source), ids(target), ids(question), Bytes())
        assert text_of(ids(source), span) == best


def test_a_line_that_was_full_goes_on_in_the_next():
    """Documentation is often wrapped; a list's lines and headings are short."""
    first = "The first sentence is long enough to be broken at the\nmargin of the text."
    source = ids(f"{first} A second one.\n\nHeading\nShort.")
    found = [text_of(source, span).strip() for span in sentence_spans(source, Bytes())]
    assert found == [first, "A second one.", "Heading", "Short."]


def test_nothing_alike_is_no_quote():
    assert quote_of(ids("今天。"), ids("xyz"), ids("?"), Bytes()) is None
    assert quote_of(ids(""), ids("x"), ids(""), Bytes()) is None


def test_an_answer_may_be_any_few_whole_characters():
    source = ids("a天b天")
    spans = {text_of(source, span) for span in answer_spans(source, Bytes())}
    assert spans == {"a", "a天", "a天b", "a天b天", "天", "天b", "天b天", "b", "b天"}


def test_an_answer_may_be_long_sentences():
    long, short = "word " * 20 + "end.", "He came."
    source = ids(f"{long} {short}")
    spans = answer_spans(source, Bytes())
    assert len(spans) == len(np.unique(spans, axis=0))
    texts = {text_of(source, span) for span in spans}
    assert {f"{long} ", f"{long} {short}", short, "came"} <= texts
    assert f"{long[5:]} {short}" not in texts


def test_marks_that_end_a_sentence_are_known_by_their_token():
    pieces = (b".", "好。".encode(), b"?\x20", b"3.5", "，".encode(), "天".encode()[:2])
    assert sentence_ends(SimpleNamespace(pieces=pieces)).tolist() == [True, True, True, False, False, False]


def test_runs_are_of_one_to_five_sentences():
    spans = sentence_spans(ids("一。二。\n三。四。五。六。"), Bytes())
    assert len(spans) == 6
    assert len(sentence_runs(spans)) == 6 + 5 + 4 + 3 + 2
    assert len(sentence_runs(spans[:0])) == 0


def test_the_quote_of_greatest_expected_overlap_is_taken():
    """Two long spans that overlap are each less likely than a third, and right together more often."""
    spans = np.array([[0, 9], [1, 9], [20, 21]])
    logits = np.full((2, 30), -50.0, np.float32)
    logits[0, [0, 1, 20]] = np.log([0.3, 0.3, 0.4])
    logits[1, [9, 21]] = 0.0
    assert best_quote(logits, spans).first in (0, 1)
    assert best_quote(logits, spans[2:]).first == 20
    assert best_quote(np.full((2, 30), -np.inf, np.float32), spans) is None
