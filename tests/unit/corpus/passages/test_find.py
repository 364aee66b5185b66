"""Passages are what a reader finds who holds every run of whole sentences against every document."""

import random
import re
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest

from slimpajama.corpus.passages.find import HASH_BITS, SHORT, Repeated, passages, windows

SIZE = 12
# Sentences as the module says, in the simple texts of these tests.
SENTENCE = re.compile(r"[^。！？!?\n.]*(?:[。！？!?\n]|\.(?=\s)|$)")
UNIT = re.compile(r"[a-z0-9]+|[\u4e00-\u9fff]")
EN = "page frame notice story river letter morning engine paper window garden light".split()
ZH = "新闻图书天地人工智能今天明日山水学校城市语言模型文件"


def texts_of(found):
    return pa.array(found, pa.large_string())


def repeated(texts, size, least, *, earlier=False):
    """Count the windows of a list of texts, all of one part; `earlier`: one before them has all they have."""
    found = windows(texts, size)
    _, first, inverse, counts = np.unique(found.hashes, return_index=True, return_inverse=True, return_counts=True)
    enough = counts[inverse] >= least
    order = np.lexsort((found.hashes, found.rows))
    order = order[enough[order]]
    rows, hashes = found.rows[order], found.hashes[order]
    ends = np.searchsorted(rows, np.arange(len(texts) + 1))
    is_first = (found.rows[first][inverse][order] == rows) & (not earlier)
    return Repeated(ends, hashes, counts[inverse][order], is_first)


def stretches(texts, size, least, **options):
    """Return the passages of texts: (number, what it says)."""
    column = texts_of(texts)
    found = passages(column, size, repeated(column, size, least, **options))
    data = [text.encode() for text in texts]
    spans = zip(found.row.tolist(), found.begin.tolist(), found.end.tolist(), strict=True)
    return [(row, data[row][begin:end].decode()) for row, begin, end in spans]


def sentence(draw, lang):
    if lang == "en":
        return " ".join(draw.choices(EN, k=draw.randint(SHORT, 15))) + ". "
    return "".join(draw.choices(ZH, k=draw.randint(SHORT, 45))) + draw.choice("。！\n")


def covered_by_hand(texts, size, least):
    """Return the sentences (text, number) that lie in a run of `size` units which `least` texts hold, by comparing."""
    parts = [[(s, UNIT.findall(s)) for s in SENTENCE.findall(text) if UNIT.findall(s)] for text in texts]
    holders = defaultdict(set)
    joined = ["".join(f"<{unit}>" for _, units in some for unit in units) for some in parts]
    for number, some in enumerate(parts):
        for begin in range(len(some)):
            run = []
            for end in range(begin, len(some)):
                run += some[end][1]
                if len(run) >= size:
                    said = "".join(f"<{unit}>" for unit in run)
                    holders[number, begin, end] = {k for k, other in enumerate(joined) if said in other}
    return {
        (number, place)
        for (number, begin, end), found in holders.items()
        if len(found) >= least
        for place in range(begin, end + 1)
    }


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_each_sentence_of_a_run_that_enough_texts_hold_is_found(lang):
    draw = random.Random(7)
    for _ in range(30):
        frame = [sentence(draw, lang) for _ in range(6)]
        texts = []
        for _ in range(5):
            own = [sentence(draw, lang) for _ in range(5)]
            begin, end = sorted(draw.sample(range(7), 2))
            texts.append("".join(own[:2] + frame[begin:end] + own[2:]))
        found = stretches(texts, SIZE, 3, earlier=True)
        for number, place in covered_by_hand(texts, SIZE, 3):
            said = [s for s in SENTENCE.findall(texts[number]) if UNIT.findall(s)][place].strip()
            assert any(row == number and said in stretch for row, stretch in found), (texts, said)


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_what_is_found_stands_window_by_window_in_enough_texts(lang):
    draw = random.Random(8)
    for _ in range(30):
        frame = "".join(sentence(draw, lang) for _ in range(4))
        texts = [sentence(draw, lang) + frame[draw.randint(0, 9) :] + sentence(draw, lang) for _ in range(4)]
        plain = ["".join(f"<{unit}>" for unit in UNIT.findall(text)) for text in texts]
        for _, stretch in stretches(texts, SIZE, 3):
            units = UNIT.findall(stretch)
            assert len(units) >= SIZE
            # All of it is covered by windows; the first and the last one begin and end within it.
            for part in (units[:SIZE], units[-SIZE:]):
                assert sum("".join(f"<{unit}>" for unit in part) in text for text in plain) >= 3


NOTICE = {
    "en": "This page may be copied by anyone who keeps this notice. Nothing on it is a promise of any kind.",
    "zh": "本页内容任何人都可以转载，但是必须保留这一段声明。本站对其中的内容不作任何保证。",
}


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize(
    "change",
    [
        lambda text: text,
        lambda text: text.upper(),
        lambda text: text.replace("，", " ").replace(" of any", "\nof any"),
        lambda text: text.replace("页", "頁").replace("可以", "可\n以"),
    ],
    ids=["same", "case", "punctuation", "script"],
)
def test_case_width_script_and_line_breaks_hide_nothing(lang, change):
    texts = [f"{lead}\n{change(NOTICE[lang])}\n{lead}" for lead in ("one", "二", "three")] + [NOTICE[lang]] * 2
    found = stretches(texts, SIZE, 5)
    assert [row for row, _ in found] == [0, 1, 2, 3, 4]
    assert {re.sub(r"\s", "", said).lower() for _, said in found[:3]} == {
        re.sub(r"\s", "", change(NOTICE[lang])).lower()
    }


@pytest.mark.parametrize("lines", [EN, list(ZH)], ids=["en", "zh"])
def test_a_list_of_short_lines_is_found_but_for_some_at_its_ends(lines):
    frame = "".join(f"{a}{b}\n" for a in lines for b in lines[:6])
    texts = [f"{word} begins here.\n{frame}{word} ends here." for word in ("one", "two", "three")]
    found = stretches(texts, 50, 3)
    assert [row for row, _ in found] == [0, 1, 2]
    assert all(said in frame and len(said) > 0.7 * len(frame) for _, said in found)


def test_only_whole_sentences_are_passages():
    shared = "the notice that everybody has seen on every page of the whole archive and in each paper"
    texts = [f"{word} {shared} {word}. The rest is {word} indeed." for word in ("one", "two", "three")]
    assert stretches(texts, SIZE, 3) == []
    texts = [f"{word} begins.\n{shared}.\n{word} ends." for word in ("one", "two", "three")]
    assert [said for _, said in stretches(texts, SIZE, 3)] == [f"{shared}.\n"] * 3


def test_a_long_sentence_is_found_whole():
    words = " ".join(f"word{n}" for n in range(100))
    texts = [f"{word} begins.\n{words}\n{word} ends." for word in ("one", "two", "three")]
    assert [said for _, said in stretches(texts, SIZE, 3)] == [f"{words}\n"] * 3


def test_a_shorter_run_and_one_in_too_few_texts_are_none():
    texts = [f"{word}\n{NOTICE['en']}\n" for word in ("one", "two")]
    assert stretches(texts, SIZE, 3) == []
    assert stretches([*texts, "three"], 22, 2) == []
    assert len(stretches(texts, SIZE, 2)) == 2


def test_a_text_that_repeats_itself_counts_once():
    texts = [NOTICE["en"] * 5, "other", "another"]
    assert stretches(texts, SIZE, 2) == []


def test_texts_without_units_have_no_windows():
    found = windows(texts_of(["", "。。。", "\n\n", "word. " * 8]), 8)
    assert found.rows.tolist() == [3]


def test_many_texts_of_one_part_are_sorted_like_few(monkeypatch):
    draw = random.Random(1)
    texts = texts_of(["".join(sentence(draw, "en") for _ in range(5)) for _ in range(70)])
    few = windows(texts, SIZE)
    monkeypatch.setattr("slimpajama.corpus.passages.find.MOST_ROWS", 1)
    many = windows(texts, SIZE)
    assert (few.hashes == many.hashes).all()
    assert (few.rows == many.rows).all()
    assert few.hashes.max() < 1 << HASH_BITS
