import unicodedata

import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from slimpajama.corpus.clean.normalise import normalise, normalise_block
from slimpajama.text.characters import FONT_FORMS

ANY = st.text(st.characters(), max_size=60) | st.text(
    st.sampled_from(
        "a文é\u0301\r\n\t \x00\x1f\u200b\u200c\u200d\ufeff👩💻❤\ufe0fन्क\u0640\ud800\ufffe１Ａ\U000e0041\u1100\u1161"
    ),
    max_size=30,
)


@given(ANY, st.booleans())
@example("\r\r\n", False)
@example("👩\u200d\u200d\u200b💻", False)
@example("é\u200b\u0301", True)
@example("\u0300\u094d\u200c", False)
@example("\u094d\u0300\u200c", False)
def test_a_normalised_text_comes_back_unchanged(text: str, fold: bool):
    once = normalise(text, fold_width=fold)
    assert normalise(once, fold_width=fold) == once


BLOCKS = st.lists(ANY.map(lambda text: text.encode(errors="ignore").decode()), max_size=5)


@given(BLOCKS, st.booleans())
@example(["a\u0301", "", " \r\n\r", "\u1100\u1161", "ﾊ\uff9e", "\u0958", "\r", "Ａ\u0301"], True)
def test_a_block_is_normalised_like_its_texts(texts: list[str], fold: bool):
    block = pa.array(["x", *texts], pa.large_string()).slice(1)
    assert normalise_block(block, fold_width=fold).to_pylist() == [normalise(text, fold_width=fold) for text in texts]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=4))
@settings(max_examples=500)
def test_the_block_leaves_nothing_that_is_not_nfc(text: str):
    (result,) = normalise_block(pa.array([text], pa.large_string())).to_pylist()
    assert unicodedata.is_normalized("NFC", result)


@given(ANY)
def test_the_result_is_nfc_valid_utf8_and_free_of_controls_and_noncharacters(text: str):
    result = normalise(text)
    result.encode()
    assert unicodedata.is_normalized("NFC", result)
    assert all(unicodedata.category(char) != "Cc" or char in "\n\t" for char in result)
    assert not any(ord(char) & 0xFFFE == 0xFFFE or 0xFDD0 <= ord(char) <= 0xFDEF for char in result)


@given(st.text(st.characters(categories=["Lu", "Ll", "Lo", "Nd", "P", "S"], max_codepoint=0xFFFF), max_size=40))
def test_visible_text_in_nfc_is_not_touched(text: str):
    # The object replacement is no text, and a font's forms have a test of their own.
    visible = "".join(char for char in unicodedata.normalize("NFC", text) if char not in {"\ufffc", *FONT_FORMS})
    assert normalise(visible) == visible


@pytest.mark.parametrize("end", ["\r\n", "\r", "\x0b", "\x0c", "\x85", "\u2028", "\u2029", "\n"])
def test_every_line_break_becomes_a_newline(end: str):
    assert normalise(f"一行{end}line") == "一行\nline"


@pytest.mark.parametrize(
    "char", ["\x00", "\x07", "\x1f", "\x7f", "\ufeff", "\u200b", "\u2060", "\u202e", "\xad", "\ufdd0", "\ud83d"]
)
def test_what_cannot_be_seen_goes(char: str):
    assert normalise(f"中{char}文") == "中文"


def test_chinese_punctuation_and_the_ideographic_space_stay_with_and_without_folding():
    text = "“你好”，他说：《书》（第１章）、ＡＢｃ！？～\u3000……"
    assert normalise(text) == text
    assert normalise(text, fold_width=True) == "“你好”，他说：《书》（第1章）、ABc！？～\u3000……"


def test_joiners_stay_where_a_script_or_an_emoji_needs_them_and_only_there():
    persian, hindi = "می\u200cخواهم", "क्\u200dष"
    family, flag = "👨\u200d👩\u200d👧", "🏳\ufe0f\u200d🌈"
    for text in (persian, hindi, family, flag):
        assert normalise(text) == text
    assert normalise("zero\u200cwidth\u200d 中\u200d文") == "zerowidth 中文"
    assert normalise("👨\u200dx 👨\u200d\u200d👩") == "👨x 👨\u200d👩"


def test_composed_and_decomposed_letters_become_the_same():
    assert normalise("cafe\u0301") == normalise("caf\u00e9") == "caf\u00e9"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("⽣活在⾼⼭，⻅⻰⻔", "生活在高山，见龙门"),
        ("The ﬁrst oﬃce ﬂoor", "The first office floor"),
        ("⺀ １㎏…", "⺀ １㎏…"),
    ],
)
def test_radicals_and_ligatures_of_a_font_become_what_is_seen(text: str, expected: str):
    assert normalise(text) == expected
    assert normalise_block(pa.array(["a", text], pa.large_string())).to_pylist() == ["a", expected]
