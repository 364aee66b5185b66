"""Planted stretches are found with their exact places, near misses are not; a slow reading of the rules agrees."""

import unicodedata

import numpy as np
import opencc
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slimpajama.core.config import DecontaminateConfig
from slimpajama.corpus.overlap import COMMON, LEAST_WINDOWS, find, make_index
from slimpajama.corpus.windows import FULL_BYTES, code_table, cut, sample, sampling
from slimpajama.text.characters import folded

WORDS, SHORT = 13, 8
EN = "It was the year in which nobody had expected that a small museum would open a second house beside the river"
ZH = "没有人想到，这座小小的博物馆会在那一年于河边开设第二座展馆，而且参观者从四面八方赶来，排起了长队。"
SINGLES = ("CJK", "IDEOGRAPHIC", "HIRAGANA", "KATAKANA", "HANGUL")
T2S = opencc.OpenCC("t2s")


def array(texts):
    return pa.array(texts, pa.large_string())


def reference_units(text):
    """Return (unit, half words, first character, behind the last) by the docstring's words."""
    units, inside = [], False
    for place, char in enumerate(text):
        shown = folded(char)
        if not shown:
            continue
        shown = shown if len(shown) == 1 else char.lower()[0]
        if unicodedata.category(shown)[0] not in "LMN":
            inside = False
        elif unicodedata.name(shown, "").startswith(SINGLES):
            units.append((T2S.convert(shown), 1, place, place + 1))
            inside = False
        elif inside:
            word, weight, first, _ = units[-1]
            units[-1] = (word + shown, weight, first, place + 1)
        else:
            units.append((shown, 2, place, place + 1))
            inside = True
    return units


def reference_overlaps(document, record, words, short):
    """Return every (first, behind the last) character of the document's stretches that are an overlap."""
    a, b = reference_units(document), reference_units(record)
    need = min(2 * words, sum(unit[1] for unit in b))
    found = set()
    for i in range(len(a)):
        for j in range(len(b)):
            if a[i][0] != b[j][0] or (i and j and a[i - 1][0] == b[j - 1][0]):
                continue
            n = 0
            while i + n < len(a) and j + n < len(b) and a[i + n][0] == b[j + n][0]:
                n += 1
            if sum(unit[1] for unit in a[i : i + n]) >= need >= 2 * short:
                found.add((a[i][2], a[i + n - 1][3]))
    return found


def stretches(documents, records, words=WORDS, short=SHORT):
    """Return what `find` says of each document: (record, first, behind the last character) or None."""
    cfg = DecontaminateConfig(ngram_words=words, short_words=short)
    index = make_index(cut(array(records), cfg), [], cfg)
    match = find(array(documents), np.zeros(len(documents), bool), index)
    found = []
    for document, item, begin, end in zip(documents, match.item, match.begin, match.end, strict=True):
        data = document.encode()
        span = (int(item), len(data[:begin].decode()), len(data[:end].decode()))
        found.append(span if item >= 0 else None)
    return found


@pytest.mark.parametrize(
    ("stretch", "before", "after"), [(EN, "Some say: ", ". Others do not."), (ZH, "据说", "真的。")]
)
def test_a_planted_stretch_is_found_with_its_exact_place(stretch, before, after):
    document = before + stretch + after
    (found,) = stretches([document], ["Nothing of the kind is said here, by anybody, at any time.", stretch])
    assert found[0] == 1
    assert document[found[1] : found[2]] == stretch.rstrip("。")


@pytest.mark.parametrize(
    "disguised",
    [
        EN.upper(),
        EN.replace(" ", "\n\n  "),
        EN.replace("a small", "“a small”,"),
        EN.replace("bod", "b\u00adod"),
        "".join(chr(ord(c) + 0xFEE0) if c.isalpha() else c for c in EN),
    ],
)
def test_case_width_punctuation_and_white_space_hide_nothing_in_english(disguised):
    assert stretches([f"x {disguised} y"], [EN]) == [(0, 2, 2 + len(disguised))]


@pytest.mark.parametrize("disguised", [ZH.replace("，", "、\n"), " ".join(ZH), opencc.OpenCC("s2t").convert(ZH)])
def test_script_punctuation_and_white_space_hide_nothing_in_chinese(disguised):
    assert stretches([f"他说：{disguised}"], [ZH])[0][:2] == (0, 3)


@pytest.mark.parametrize(
    ("record", "words"), [(EN.split(), WORDS), ([char for char in ZH if char not in "，。"], 2 * WORDS)]
)
def test_one_unit_fewer_than_the_bound_is_not_an_overlap_wherever_it_stands(record, words):
    joint = " " if record[0].isascii() else ""
    for start in range(len(record) - words + 1):
        enough = joint.join(["甲", *record[start : start + words], "乙"])
        too_few = joint.join(["甲", *record[start : start + words - 1], "乙"])
        assert stretches([enough, too_few], [joint.join(record)]) == [
            (0, 1 + len(joint), len(enough) - 1 - len(joint)),
            None,
        ]


def test_a_short_record_must_be_there_as_a_whole_and_a_shorter_one_is_not_looked_for():
    short, tiny = "what is the capital city of the republic", "what is the capital of Spain"
    assert stretches([f"Say, {short}?", f"Say, {short[:-9]} empire?"], [short]) == [(0, 5, 5 + len(short)), None]
    assert stretches([tiny * 3], [tiny]) == [None]
    assert stretches(["请问：中华民国时期的首都在哪个城市？谢谢"], ["中华民国时期的首都在哪个城市以后"]) == [None]
    assert stretches(["请问：中华民国时期的首都在哪个城市以后？"], ["中华民国时期的首都在哪个城市以后"]) == [(0, 3, 19)]


WORDS_ST = st.sampled_from(["a", "B", "ab", "中", "國", "国", "ｂ", "1", "é", "ß"])
JOINTS = st.sampled_from([" ", "", "，", "\n", "\u200b", "-", "️"])
TEXTS = st.lists(st.tuples(WORDS_ST, JOINTS), max_size=60).map(lambda parts: "".join(map("".join, parts)))


@settings(max_examples=300)
@given(document=TEXTS, record=TEXTS, words=st.integers(2, 8), short=st.integers(1, 8))
@example(document="中 a 国 b", record="a 國", words=2, short=1)
def test_what_is_found_is_what_a_slow_reading_of_the_rules_finds(document, record, words, short):
    short = min(words, short)
    expected = reference_overlaps(document, record, words, short)
    (found,) = stretches([document], [record], words, short)
    assert (found is not None) == bool(expected)
    assert found is None or found[1:] in expected


def test_every_code_point_counts_as_the_reference_says():
    table = code_table()
    for point in [*range(0x20, 0x3000), *range(0x3000, 0x30000, 7), *range(0xF900, 0xFFF0)]:
        if not 0xD800 <= point < 0xE000:
            units = reference_units("~" + chr(point))
            assert (table[point] > 1) == bool(units), hex(point)
            assert not units or chr(table[point] & 0x7FFFFFFF) == units[0][0], hex(point)
            assert not units or (table[point] >> 31) == (units[0][1] == 1), hex(point)


@pytest.mark.parametrize(
    ("written", "record"),
    [
        ("⼤学⽣⼀起学习⾃然语⾔处理，⻓⼤后⻅到⻰⻔", "大学生一起学习自然语言处理，长大后见到龙门"),
        ("ＴＨＥ old keeper\u200b re\u00adpaired it", "the old keeper repaired it"),
    ],
)
def test_radicals_width_and_what_nobody_sees_hide_no_overlap(written, record):
    assert stretches([f"前言 {written} the end"], [record], 4, 2)[0] is not None


def held_out_matches(documents, held_out, share=0.5, flags=None, rate=4):
    cfg = DecontaminateConfig(ngram_words=WORDS, short_words=SHORT, held_out_share=share)
    index = make_index(cut(array([]), cfg), [sample(array(held_out), cfg, rate)], cfg, rate)
    flags = np.zeros(len(documents), bool) if flags is None else np.array(flags)
    return index, find(array(documents), flags, index)


def numbered(seed, n, chinese):
    rng = np.random.default_rng(seed)
    if chinese:
        return "".join(chr(0x4E00 + int(c)) for c in rng.integers(0, 5000, n))
    return " ".join(f"word{int(c)}" for c in rng.integers(0, 5000, n))


@pytest.mark.parametrize("chinese", [True, False])
def test_a_document_that_holds_most_of_a_held_out_one_is_found_and_one_that_quotes_it_is_not(chinese):
    text, other = numbered(1, 400, chinese), numbered(2, 400, chinese)
    most, little = other + " " + text[: len(text) * 3 // 4], other + " " + text[: len(text) // 4]
    index, match = held_out_matches([most, little, other], [text])
    assert match.item.tolist() == [0, -1, -1]
    # Three quarters of a sample of about a hundred.
    assert 0.65 < match.amount[0] / index.windows[0] < 0.85
    stretch = most.encode()[match.begin[0] : match.end[0]].decode()
    assert stretch in most[len(other) :]
    assert len(stretch) > len(text) // 2


@pytest.mark.parametrize("chinese", [True, False])
def test_of_much_held_out_text_fewer_windows_are_looked_for_and_a_long_document_is_found_all_the_same(chinese):
    text, other = numbered(1, 4000, chinese), numbered(2, 4000, chinese)
    most, little = other + " " + text[: len(text) * 3 // 4], other + " " + text[: len(text) // 4]
    index, match = held_out_matches([most, little, other], [text], rate=32)
    assert match.item.tolist() == [0, -1, -1]
    assert index.windows[0] < 2 * 4000 / 32
    assert not (index.hashes & np.uint64(31)).any()


def test_no_more_windows_are_taken_however_much_text_is_held_out():
    assert [sampling(n) for n in (0, 1, FULL_BYTES, FULL_BYTES + 1, 4 * FULL_BYTES)] == [4, 4, 4, 8, 16]
    for n_bytes in (1, FULL_BYTES * 7, FULL_BYTES * 1000 + 1):
        assert n_bytes / sampling(n_bytes) <= FULL_BYTES / 4


def test_held_out_documents_are_not_compared_with_each_other():
    text = numbered(3, 300, chinese=True)
    assert held_out_matches([text, text], [text], flags=[True, False])[1].item.tolist() == [-1, 0]


def test_what_several_held_out_documents_share_is_boilerplate_and_says_nothing():
    licence, own = numbered(4, 300, chinese=False), [numbered(5 + k, 40, chinese=False) for k in range(COMMON + 1)]
    held_out = [f"{licence} {text}" for text in own]
    assert held_out_matches([licence], held_out)[1].item.tolist() == [-1]
    assert held_out_matches([licence], held_out[:COMMON])[1].item.tolist() == [0]
    assert held_out_matches([own[1]], held_out)[1].item.tolist() == [1]


def test_one_or_two_windows_in_common_are_too_few_to_tell():
    text = numbered(20, SHORT + 2, chinese=False)
    index, match = held_out_matches([text], [text], share=0.01)
    assert index.need[0] == LEAST_WINDOWS > index.windows[0]
    assert match.item.tolist() == [-1]
